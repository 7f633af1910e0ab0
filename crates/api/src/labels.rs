//! Name rules of labels, annotations and objects, by the names that the rest of the workspace uses. The rules and
//! their wording live in `validation::names`.

pub use crate::validation::names::*;
