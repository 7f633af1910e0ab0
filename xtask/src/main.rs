//! Makes the data files under `crates/api/data` from the raw API tables (resources, schemas, presence, protobuf).
//! Run by hand when the API level moves: `cargo run -p xtask -- api-data <folder with the raw tables>`.
//! Spawns nothing; reads the given folder, writes only into `crates/api/data`.

mod proto;
mod resources;
mod schema;

use std::path::{Path, PathBuf};

use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn read(dir: &Path, name: &str) -> Result<Value> {
    let path = dir.join(name);
    let raw = std::fs::read(&path).map_err(|e| format!("failed to read {}: {e}", path.display()))?;
    Ok(serde_json::from_slice(&raw).map_err(|e| format!("failed to parse {}: {e}", path.display()))?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (Some("api-data"), Some(dir)) = (args.first().map(String::as_str), args.get(1)) else {
        return Err("usage: cargo run -p xtask -- api-data <folder>".into());
    };
    let dir = PathBuf::from(dir);
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/api/data");
    std::fs::create_dir_all(&out)?;
    let schemas = read(&dir, "schemas.json")?;
    std::fs::write(out.join("schema.txt"), schema::render(&schemas, &read(&dir, "presence.json")?)?)?;
    std::fs::write(out.join("resources.txt"), resources::render(&read(&dir, "resources.json")?)?)?;
    std::fs::write(out.join("protobuf.txt"), proto::render(&read(&dir, "protobuf.json")?)?)?;
    Ok(())
}
