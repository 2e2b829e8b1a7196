//! Where things are.

use std::path::PathBuf;

/// The repository: the folder above this crate's.
pub fn root() -> PathBuf {
    let crate_directory = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    crate_directory.parent().map(PathBuf::from).unwrap_or(crate_directory)
}

/// `target/nas`, made when absent.
pub fn output_directory() -> Result<PathBuf, String> {
    let directory = root().join("target").join("nas");
    make_directory(&directory)?;
    Ok(directory)
}

/// Makes `directory` and those above it.
pub fn make_directory(directory: &std::path::Path) -> Result<(), String> {
    std::fs::create_dir_all(directory)
        .map_err(|error| format!("cannot make {}: {error}", directory.display()))
}
