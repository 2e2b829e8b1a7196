//! What passed and what failed, as it happens and in the end.

use std::process::ExitCode;
use std::time::Instant;

/// A running count.
#[derive(Debug)]
pub struct Report {
    passed: usize,
    failed: Vec<String>,
    started: Instant,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        Self { passed: 0, failed: Vec::new(), started: Instant::now() }
    }

    /// Says what comes next.
    pub fn heading(&self, text: &str) {
        println!("\n== {text} ({} s)", self.started.elapsed().as_secs());
    }

    /// Runs one check and notes how it went.
    pub fn check(&mut self, name: &str, check: impl FnOnce() -> Result<(), String>) -> bool {
        let started = Instant::now();
        let result = check();
        self.note(name, started, result)
    }

    /// Notes how something went that began at `started`.
    pub fn note(&mut self, name: &str, started: Instant, result: Result<(), String>) -> bool {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok     {name} ({:.1} s)", started.elapsed().as_secs_f32());
                true
            }
            Err(reason) => {
                self.fail(name, &reason);
                false
            }
        }
    }

    /// Notes `count` things that passed elsewhere.
    pub fn add_passed(&mut self, count: usize) {
        self.passed += count;
    }

    /// Notes one that failed.
    pub fn fail(&mut self, name: &str, reason: &str) {
        self.failed.push(name.to_string());
        println!("FAILED {name}");
        for line in reason.lines() {
            println!("       {line}");
        }
    }

    /// The last line, and the exit code.
    pub fn finish(self) -> ExitCode {
        println!("\n{} s in all", self.started.elapsed().as_secs());
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        if self.failed.is_empty() && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
