//! `cargo xtask powercut`: clients work on the image in QEMU, the power is cut at random instants, and the image is started on
//! what the disks would hold then. `docs/power-cuts.md` says what is simulated and what is checked.

mod log;
mod look;
mod recording;
mod rig;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use storage::test_devices::Generator;
use storage::test_devices::oracle::Covered;

use crate::arguments::Arguments;
use crate::report::Report;
use crate::run::Signals;
use crate::{flash, settings, tools};
use rig::{Product, Rig};

/// Cuts of one recorded run.
const CUTS_PER_RUN: u64 = 40;

/// Findings after which it is not worth while to go on.
const ENOUGH: usize = 5;

/// What a series of cuts gave.
#[derive(Default)]
struct Tally {
    cuts: u64,
    /// Cuts that were followed by another while the first was recovered from.
    twice: u64,
    /// Cuts after which a mirror had only one disk left.
    alone: u64,
    covered: Covered,
    findings: Vec<PathBuf>,
}

/// `cargo xtask powercut`.
pub fn command(rest: Vec<String>) -> Result<ExitCode, String> {
    let mut arguments = Arguments::new(rest);
    let number = |text: Option<String>, default: u64| match text {
        None => Ok(default),
        Some(text) => text.parse::<u64>().map_err(|_| format!("{text} is not a number")),
    };
    let cuts = number(arguments.value("--cuts")?, 50)?;
    let seed = number(arguments.value("--seed")?, 1)?;
    let products = match arguments.value("--volumes")?.as_deref() {
        None => Product::ALL.to_vec(),
        Some(name) => {
            let found = Product::ALL.into_iter().find(|product| product.name() == name);
            vec![found.ok_or_else(|| format!("--volumes is mirror or single, not {name}"))?]
        }
    };
    arguments.finish()?;
    tools::require(&[tools::RUST_SRC, tools::QEMU, tools::FSCK_EXFAT, tools::FSCK_FAT])?;
    let signals = Signals::watch()?;
    flash::build("", false)?;
    let started = Instant::now();
    let mut table = Vec::new();
    let mut findings = 0;
    for (index, product) in products.iter().enumerate() {
        let share =
            cuts * (index as u64 + 1) / products.len() as u64 - cuts * index as u64 / products.len() as u64;
        let begun = Instant::now();
        let tally = series(*product, share, seed, &signals)?;
        findings += tally.findings.len();
        table.push((product.name(), tally, begun.elapsed()));
    }
    println!("\nvolumes   cuts  twice  one disk   files found  bytes promised   findings   seconds");
    for (name, tally, taken) in &table {
        println!(
            "{name:8} {:5}  {:5}  {:8}  {:12}  {:14}  {:9}  {:8}",
            tally.cuts,
            tally.twice,
            tally.alone,
            tally.covered.files,
            tally.covered.promised_bytes,
            tally.findings.len(),
            taken.as_secs()
        );
    }
    println!("{} s in all, seed {seed}", started.elapsed().as_secs());
    Ok(if findings == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// As a part of `cargo xtask test`: a few cuts of each kind, with the image as it was built.
pub fn run(report: &mut Report, signals: &Signals) {
    for (product, cuts) in [(Product::Mirror, 10), (Product::Single, 5)] {
        let started = Instant::now();
        let result = series(product, cuts, 1, signals).and_then(|tally| match tally.findings.first() {
            None => Ok(()),
            Some(place) => {
                Err(format!("{} findings, the first in {}", tally.findings.len(), place.display()))
            }
        });
        report.note(&format!("{cuts} power cuts, {}", product.name()), started, result);
    }
}

/// `cuts` cuts of one product.
fn series(product: Product, cuts: u64, seed: u64, signals: &Signals) -> Result<Tally, String> {
    let directory = settings::output_directory()?.join(format!("powercut-{}", product.name()));
    let mut rig = Rig::new(product, directory, signals.clone())?;
    let mut tally = Tally::default();
    let mut run = 0;
    while tally.cuts < cuts && tally.findings.len() < ENOUGH {
        let wanted = (cuts - tally.cuts).min(CUTS_PER_RUN);
        let run_seed = seed.wrapping_mul(1000).wrapping_add(run);
        let begun = Instant::now();
        let recording = rig.record(run_seed, wanted)?;
        println!(
            "       {} run {run} (seed {run_seed}): {} calls in {:.1} s",
            product.name(),
            recording.calls(),
            begun.elapsed().as_secs_f32()
        );
        let mut random = Generator::new(run_seed ^ 0xC0_7000);
        let begun = Instant::now();
        rig.cuts(&recording, &mut random, &mut tally)?;
        println!(
            "       {} of {cuts} cuts, {} findings, {:.1} s a cut",
            tally.cuts,
            tally.findings.len(),
            begun.elapsed().as_secs_f32() / wanted as f32
        );
        run += 1;
    }
    Ok(tally)
}
