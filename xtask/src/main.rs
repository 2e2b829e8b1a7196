//! Build, image, run, test and bench the appliance.

mod elf;
mod image;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("image") => {
            let features = arguments
                .iter()
                .position(|it| it == "--features")
                .and_then(|at| arguments.get(at + 1))
                .cloned()
                .unwrap_or_default();
            let target =
                std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
            let flash = target.join("nas/flash.img");
            match image::build(&image::Options { workspace, flash, features, verbose: true }) {
                Ok(summary) => {
                    print!("{summary}");
                    ExitCode::SUCCESS
                }
                Err(error) => {
                    eprintln!("image: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        _ => {
            eprintln!("cargo xtask image [--features FEATURES]");
            ExitCode::FAILURE
        }
    }
}
