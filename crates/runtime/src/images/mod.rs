//! Images: names, archives, registries, and the store of unpacked layers.

pub mod archive;
pub mod model;
pub mod reference;
pub mod registry;
pub mod store;
pub mod unpack;

pub use archive::import;
pub use model::{ImageRecord, RunConfig};
pub use reference::Reference;
pub use registry::Progress;
pub use store::{ImageError, ImageStore};
