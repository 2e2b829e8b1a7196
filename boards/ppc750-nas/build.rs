//! Gives the boot block its linker script when it is built for the board.

fn main() {
    println!("cargo:rerun-if-changed=boot-block.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bin=boot-block=-T{directory}/boot-block.ld");
    }
}
