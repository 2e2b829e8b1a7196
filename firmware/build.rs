//! Gives the image its linker script when it is built for the board.

fn main() {
    let script = "../boards/ppc750-nas/firmware.ld";
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bin=firmware=-T{directory}/{script}");
    }
}
