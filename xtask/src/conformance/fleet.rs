//! Several machines, so that cases that mostly wait can wait side by side.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use flash_layout::configuration::Policy;

use super::lists::ByName;
use super::outcome::Outcome;
use super::torture::{SECOND_USER, Torture};
use crate::flash::{self, Provision};
use crate::machine::{Machine, Options};
use crate::outside;
use crate::run::{self, Signals};
use crate::settings;

/// Machines at once. Each is idle most of the time.
const MACHINES: usize = 4;

/// Bytes of each disk, which is sparse: pike copies to anywhere in the first 4 GiB of a file.
const DISK: u64 = 8 << 30;

/// In `options.txt`: the case is for a server that requires signing.
const SIGNING: &str = "signing-required";

/// A machine under test.
pub struct Member {
    machine: Machine,
    password: String,
}

impl Member {
    /// Boots a new machine that keeps its files in `directory`.
    pub fn boot(directory: &Path, signing: Policy, signals: &Signals) -> Result<Self, String> {
        let _ = std::fs::remove_dir_all(directory);
        settings::make_directory(directory)?;
        let options = Options::new(directory.into());
        let wanted = run::wanted(&options.directory, None, None, "data".into())?;
        let wanted = Provision {
            signing: Some(signing),
            second_user: Some(SECOND_USER.into()),
            encrypted_share: Some("encrypted".into()),
            ..wanted
        };
        run::prepare(&options, &flash::firmware()?, &wanted, DISK)?;
        let mut machine = Machine::start(&options)?;
        run::wait_ready(&mut machine, signals)?.ok_or("interrupted")?;
        Ok(Self { machine, password: wanted.password })
    }

    /// How `suites.py` is told of it.
    pub fn suite_arguments(&self) -> [String; 6] {
        let (port, netbios) = (self.machine.ports.smb.to_string(), self.machine.ports.netbios.to_string());
        let words = ["--port", &port, "--netbios-port", &netbios, "--password", &self.password];
        words.map(String::from)
    }

    /// How clients reach it.
    pub fn torture(&self) -> Torture {
        Torture { port: self.machine.ports.smb, password: self.password.clone() }
    }

    /// An error when it has ended, or has crashed on the way.
    pub fn check(&mut self) -> Result<(), String> {
        if self.machine.is_running() { outside::quiet(&self.machine) } else { Err(self.machine.death()) }
    }

    /// Switches it off.
    pub fn end(mut self) -> Result<(), String> {
        let checked = self.check();
        self.machine.power_off(Duration::from_secs(20));
        checked
    }
}

/// Runs `names` on machines that keep their files in `directory`; `told` hears how each ended.
///
/// # Errors
/// A machine does not start, or has crashed; a signal came.
pub fn run(
    names: &[String],
    directory: &Path,
    signals: &Signals,
    told: &(dyn Fn(&str, Outcome, String) + Sync),
) -> Result<(), String> {
    let options = ByName::options()?;
    let signing = |name: &&String| {
        options.find(name).is_some_and(|words| words.split_whitespace().any(|word| word == SIGNING))
    };
    let (required, offered): (Vec<&String>, Vec<&String>) = names.iter().partition(signing);
    for (policy, names) in [(Policy::Offered, offered), (Policy::Required, required)] {
        let queue = Mutex::new(names.iter().copied().collect::<VecDeque<_>>());
        let work = |number: usize| -> Result<(), String> {
            let mut member = Member::boot(&directory.join(number.to_string()), policy, signals)?;
            let torture = member.torture();
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(name) = next else { break };
                if signals.count() > 0 {
                    return Err("interrupted".into());
                }
                let (outcome, complaint) = torture.case(name, options.find(name).unwrap_or(""));
                member.check().map_err(|error| format!("{name}: {error}"))?;
                told(name, outcome, complaint);
            }
            member.end()
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..MACHINES.min(names.len())).map(|number| scope.spawn(move || work(number))).collect();
            let ends =
                threads.into_iter().map(|thread| thread.join().unwrap_or(Err("a thread panicked".into())));
            ends.collect::<Vec<_>>().into_iter().collect::<Result<(), String>>()
        })?;
    }
    Ok(())
}
