//! The check of a volume as the console shows it.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;

use storage::check::{Event, Finding};
use storage::{BlockDevice, Cache};

use crate::scheduler::{self, RawMutex};

/// How often a long check says how far it is, in microseconds.
const PROGRESS_INTERVAL: u64 = 5_000_000;

/// Checks the volume that fills `part`, which is not mounted, and prints what is found.
pub fn check(
    cache: &Arc<Cache<RawMutex>>,
    part: Arc<dyn BlockDevice>,
    volume: usize,
    repair: bool,
    out: &mut dyn Write,
) -> Result<(), String> {
    log::info!("volume {volume}: {}", if repair { "check and repair" } else { "check" });
    let mut told = scheduler::now();
    // The terminal never fails: what cannot be printed is lost.
    let report = storage::check::check(cache, part, repair, &mut |event| match event {
        Event::Progress(done, all) => {
            if scheduler::now() - told >= PROGRESS_INTERVAL {
                told = scheduler::now();
                let percent = u64::from(*done) * 100 / u64::from(*all).max(1);
                let _ = writeln!(out, "  at work: {percent} % of the volume belongs to what was found");
            }
            scheduler::yield_now();
        }
        Event::Found(finding, path) => {
            let place = if path.is_empty() { String::from("volume") } else { String::from_utf16_lossy(path) };
            let _ = writeln!(out, "  {place}: {}", finding.text());
        }
    });
    let report = report.map_err(|why| {
        log::error!("volume {volume}: check: {why}");
        format!("the check could not go on: {why}")
    })?;
    let free = (u64::from(report.free) * u64::from(report.cluster)) >> 20;
    let _ = writeln!(out, "{} files, {} directories, {free} MiB free", report.files, report.directories);
    for (finding, count) in report.found() {
        let _ = writeln!(out, "{count:>10}  {}", finding.text());
    }
    if report.is_clean() {
        log::info!("volume {volume}: nothing is wrong");
        let _ = writeln!(out, "Nothing is wrong.");
        return Ok(());
    }
    log::warn!("volume {volume}: damaged{}", if repair { ", repaired" } else { "" });
    if !repair {
        let _ = writeln!(out, "Nothing was changed. To put it right: check {volume} repair");
        return Ok(());
    }
    if report.count(Finding::LostClusters) > 0 {
        let (files, clusters) = report.kept;
        let _ = writeln!(
            out,
            "Lost clusters: {clusters} kept in {files} files of a folder FOUND.nnn, {} freed.",
            report.freed
        );
    }
    let _ = writeln!(out, "It is put right.");
    Ok(())
}
