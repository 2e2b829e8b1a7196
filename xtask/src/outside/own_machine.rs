//! Suites that have machines of their own, whose disks they make or look at while the power is off.

use std::time::Duration;

use flash_layout::configuration::BlankDisks;

use super::{Bench, POWER_OFF_LIMIT, new_machine, quiet};
use crate::clients::{Target, suite};
use crate::flash::{self, Provision};
use crate::machine::{End, Machine, Ports};
use crate::report::Report;
use crate::run;

/// One of them. A round is a machine's life: the suite's tests `before` it is switched on, `during`, and `after`.
pub struct OwnMachine {
    /// The suite's.
    pub name: &'static str,
    /// Those that it has; all its tests are run `during` when there are none.
    parts: &'static [&'static str],
    /// Machines in turn: usually, and for everything at full size.
    rounds: [u32; 2],
    /// Size of disks that the suite does not make itself, likewise.
    disk_size: [u64; 2],
}

/// Each has two disks, a volume on each.
pub const OWN_MACHINES: [OwnMachine; 5] = [
    own("shares", &[], [1; 2], [64 << 20; 2]),
    own("pc_disks", &["before", "during", "after"], [2; 2], [64 << 20; 2]),
    own("full_disk", &["during", "after"], [1; 2], [64 << 20, 300 << 20]),
    own("large_file", &["before", "during", "after"], [1; 2], [64 << 20; 2]),
    own("damaged_disks", &["before", "during", "after"], [6, 60], [64 << 20; 2]),
];

const fn own(
    name: &'static str,
    parts: &'static [&'static str],
    rounds: [u32; 2],
    disk_size: [u64; 2],
) -> OwnMachine {
    OwnMachine { name, parts, rounds, disk_size }
}

impl Bench {
    /// Runs one of [`OWN_MACHINES`].
    pub fn own_machine(&self, report: &mut Report, own: &OwnMachine) -> Result<(), String> {
        println!("       {}", own.name);
        let (options, wanted) = new_machine(self.directory.join(own.name))?;
        let wanted = Provision { volumes: BlankDisks::Single, ..wanted };
        let directory = options.directory.display().to_string();
        let limit = Duration::from_secs(300);
        let [rounds, full_rounds] = own.rounds;
        let [size, full_size] = own.disk_size;
        let (rounds, size) = if self.full { (full_rounds, full_size) } else { (rounds, size) };
        for round in 0..rounds {
            let number = round.to_string();
            let tests = |report: &mut Report, part: &str, ports: Ports| {
                let all = own.parts.is_empty() && part == "during";
                if all || own.parts.contains(&part) {
                    let target = Target { share2: "data2".into(), ..self.target(ports, &wanted) };
                    let more = [
                        "--directory",
                        &directory,
                        "--round",
                        &number,
                        "--only",
                        if all { "" } else { part },
                    ];
                    suite(report, &self.python, own.name, &target, &more, limit);
                }
            };
            tests(report, "before", Ports::default());
            run::prepare(&options, &flash::firmware()?, &wanted, size)?;
            let mut machine = Machine::start(&options)?;
            machine.serve_console()?;
            run::wait_ready(&mut machine, &self.signals)?.ok_or("interrupted")?;
            tests(report, "during", machine.ports);
            if !machine.is_running() {
                return Err(machine.death());
            }
            report.check("nothing has panicked, and it switches itself off", || {
                quiet(&machine)?;
                match machine.power_off(POWER_OFF_LIMIT) {
                    End::PoweredOff => quiet(&machine),
                    End::Quit => Err(format!("it did not; the console shows:\n{}", machine.console_tail(20))),
                }
            });
            tests(report, "after", Ports::default());
        }
        Ok(())
    }
}
