//! Build, image, run, test and bench the appliance: everything that a developer, or CI, types.

#![forbid(unsafe_code)]

mod arguments;
mod bench;
mod checks;
mod clients;
mod conformance;
mod disk_errors;
mod elf;
mod flash;
mod image;
mod machine;
mod mirror;
mod negotiate;
mod outside;
mod power_cut;
mod process;
mod qmp;
mod report;
mod run;
mod settings;
mod tools;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  image                build the firmware; target/nas/flash.img, exactly 4 MiB
      --features LIST      cargo features of the firmware
  run [OPTION]...      boot it in QEMU
      --dir DIR            holds flash.img, disk0.img, disk1.img (default target/nas)
      --headless           the console is the unix socket DIR/console.sock
      --smb-port PORT      NIC 1, port 445 (default 4450; 0: any that is free)
      --netbios-port PORT  NIC 1, port 139 (default 1390)
      --smb-port2 PORT     NIC 2, port 445 (default 4451)
      --disk-size SIZE     of new disks, as 512M or 4G (default 4G)
      --volumes LAYOUT     new disks become a mirror, or single volumes (default mirror)
      --user NAME --password PW
                           the account (default nas, with a password kept in DIR/password)
      --share NAME         the share (default data)
      --nic MODEL          QEMU network device (default i82559er)
      --qemu-arg ARG       one more argument for QEMU; may be repeated
  test [--full] [--only PART]...
                       format, clippy, host tests, the same big-endian, then the image
                       in QEMU driven by real clients; PARTs: style host big-endian image
                       --suite NAME runs one client suite of the image part
  conformance [--only START] [--accept]
                       smbtorture and the tests of client libraries;
                       docs/conformance.md
  powercut [--cuts N] [--seed S] [--volumes mirror|single]
                       clients at work, the power cut at random instants, and what is
                       there then; what is found is kept in target/nas/powercut-*
  bench                guest instructions for each operation; target/nas/bench.json
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_str() {
        "image" => image_command(rest),
        "run" => run::command(rest),
        "test" => checks::command(rest),
        "bench" => bench::command(rest),
        "conformance" => conformance::command(rest),
        "powercut" => power_cut::command(rest),
        "help" | "--help" | "-h" => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        "" => Err(USAGE.trim_end().to_string()),
        other => Err(format!("there is no command {other}\n\n{}", USAGE.trim_end())),
    };
    result.unwrap_or_else(|message| {
        eprintln!("{message}");
        ExitCode::FAILURE
    })
}

/// `cargo xtask image`.
fn image_command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = arguments::Arguments::new(rest);
    let features = arguments.value("--features")?.unwrap_or_default();
    arguments.finish()?;
    tools::require(&[tools::RUST_SRC])?;
    let mut built = flash::build(&features, true)?;
    built.flash = settings::output_directory()?.join("flash.img");
    flash::install(&built.flash, &flash::firmware()?)?;
    print!("{built}");
    Ok(ExitCode::SUCCESS)
}
