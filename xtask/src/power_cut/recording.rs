//! A run of the image with clients at work, its disks recorded, and the instants at which the power is to fail.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{Employee, Handle, SmbClient};
use storage::test_devices::Generator;
use storage::test_devices::workload::{Diary, Habits, Worker};

use super::rig::Rig;
use crate::machine::{Attached, Machine, Options};
use crate::{process, run};

/// Clients at work.
const CLIENTS: usize = 4;

/// A client that is answered nothing for so long has found a fault.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// An instant at which the power fails.
pub struct Cut {
    /// Nanoseconds since the recording began.
    pub at: u64,
    /// How long the disks' logs were.
    pub lengths: [u64; 2],
}

/// What one run gave.
pub struct Recording {
    /// What each client did, and on which share.
    pub diaries: Vec<(usize, Diary)>,
    /// In rising order.
    pub cuts: Vec<Cut>,
}

impl Recording {
    /// How many calls the clients made.
    pub fn calls(&self) -> usize {
        self.diaries.iter().map(|(_, diary)| diary.steps.len()).sum()
    }
}

/// Logs on and connects to a share; tries again while the appliance is not that far.
pub fn connect(
    options: &Options,
    port: u16,
    password: &str,
    share: &str,
) -> Result<SmbClient<TcpStream>, String> {
    let mut last = String::new();
    let connected = process::wait_for(Duration::from_secs(20), || {
        let attempt = || {
            let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
            let set = stream.set_read_timeout(Some(ANSWER_LIMIT)).and_then(|()| stream.set_nodelay(true));
            set.map_err(|error| error.to_string())?;
            let mut client = SmbClient::negotiate(stream).map_err(|error| format!("NEGOTIATE: {error:?}"))?;
            client.log_on("nas", password).map_err(|error| format!("log-on: {error:?}"))?;
            client.connect_tree(share).map_err(|error| format!("share {share}: {error:?}"))?;
            Ok(client)
        };
        attempt().map_err(|error: String| last = error).ok()
    });
    connected.ok_or_else(|| format!("port {port} of {}: {last}", options.directory.display()))
}

/// Stops the process, all its threads, and waits until that is so.
fn freeze(process: u32) -> Result<(), String> {
    signal("-STOP", process)?;
    let tasks = format!("/proc/{process}/task");
    let stopped = process::wait_for(Duration::from_secs(5), || {
        let all = std::fs::read_dir(&tasks).ok()?.flatten().all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The state follows the name in brackets.
            stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('T'))
        });
        all.then_some(())
    });
    stopped.ok_or_else(|| "QEMU does not stop".to_string())
}

fn signal(name: &str, process: u32) -> Result<(), String> {
    process::run(Command::new("kill").args([name, &process.to_string()]))
}

impl Rig {
    /// Lets clients work on fresh disks and notes `count` instants.
    pub fn record(&mut self, seed: u64, count: u64) -> Result<Recording, String> {
        self.write_disks(&self.base)?;
        for channel in 0..2 {
            let log = self.options.log(channel);
            std::fs::File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        }
        let mut machine = Machine::start_with(&self.options, [Attached::Recorded; 2])?;
        let ready = run::wait_ready(&mut machine, &self.signals)?;
        ready.ok_or("interrupted")?;
        let mut random = Generator::new(seed);
        let begun = Instant::now();
        let clock = move || begun.elapsed().as_nanos() as u64;
        let stop = AtomicBool::new(false);
        // A write is one request, so that it is one step of the diary.
        let habits = Habits { longest_write: 65_536, largest_file: 600_000, names: 20 };
        let shares = self.product.shares();
        // All connections first: an error may leave nobody at work.
        let mut clients = Vec::new();
        for number in 0..CLIENTS {
            let share = shares[number % shares.len()];
            let port = [machine.ports.smb, machine.ports.smb2][number % 2];
            clients.push(connect(&self.options, port, &self.wanted.password, share)?);
        }
        let (cuts, worked) = thread::scope(|scope| {
            let mut workers = Vec::new();
            for (number, client) in clients.into_iter().enumerate() {
                let mut files = Employee::new(client, clock);
                let (root, first_file) = (format!("client {number}"), number as u32 * 1_000_000 + 1);
                let mut worker = Worker::<Handle>::new(random.bits(), &root, first_file, habits);
                let stop = &stop;
                workers.push(scope.spawn(move || {
                    let mut result = worker.begin(&mut files);
                    while result.is_ok() && !stop.load(Ordering::Relaxed) {
                        result = worker.step(&mut files);
                    }
                    (number % shares.len(), worker.diary, result)
                }));
            }
            let cuts = self.choose(&mut machine, &mut random, count, &clock);
            stop.store(true, Ordering::Relaxed);
            let worked: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
            (cuts, worked)
        });
        let mut diaries = Vec::new();
        for outcome in worked {
            let (share, diary, result) = outcome.map_err(|_| "a client panicked".to_string())?;
            if let Err(failure) = result {
                let who = &diary.root;
                return Err(format!("{who}: no sensible answer ({failure:?})\n{}", machine.console_tail(20)));
            }
            diaries.push((share, diary));
        }
        let cuts = cuts?;
        super::look::console_is_calm(&machine)?;
        machine.kill();
        Ok(Recording { diaries, cuts })
    }

    /// Freezes QEMU at random instants and notes how far the disks' logs are. What a client was answered by then, QEMU had
    /// sent before; and what QEMU had answered the guest by then is in the logs.
    fn choose(
        &self,
        machine: &mut Machine,
        random: &mut Generator,
        count: u64,
        clock: &dyn Fn() -> u64,
    ) -> Result<Vec<Cut>, String> {
        let mut cuts = Vec::new();
        thread::sleep(Duration::from_millis(200 + random.below(2500)));
        for _ in 0..count {
            thread::sleep(Duration::from_micros(random.below(500_000)));
            if !machine.is_running() {
                return Err(machine.death());
            }
            freeze(machine.process_id())?;
            let mut lengths = [0; 2];
            for (channel, length) in lengths.iter_mut().enumerate() {
                let log = self.options.log(channel);
                *length =
                    std::fs::metadata(&log).map_err(|error| format!("{}: {error}", log.display()))?.len();
            }
            let at = clock();
            signal("-CONT", machine.process_id())?;
            cuts.push(Cut { at, lengths });
        }
        Ok(cuts)
    }
}
