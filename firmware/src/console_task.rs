//! The console: the `console` crate's shell on the board's serial line, and the appliance as its commands see it.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use console::{Access, Outcome, Shell, System};
use flash_layout::configuration as flash;
use flash_layout::configuration::same_name;

use crate::appliance::Appliance;
use crate::board::{self, Board, events};
use crate::log_ring;
use crate::net;
use crate::scheduler::{self, Event};

/// How often the log is looked at while nobody has typed, in microseconds.
const LOG_INTERVAL: u64 = 250_000;

/// The serial line as text goes out: blocks the console's thread while the transmitter is full.
struct Terminal<'a, B: 'static> {
    board: &'static B,
    event: &'a Event,
}

impl<B: Board> fmt::Write for Terminal<'_, B> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut bytes = text.as_bytes();
        while !bytes.is_empty() {
            let taken = self.board.console_write(bytes);
            bytes = bytes.get(taken..).unwrap_or_default();
            if taken == 0 {
                // Room is announced by the event, keys too: the time-out covers what one of them took for itself.
                self.event.wait_until(scheduler::now() + 20_000);
            }
        }
        Ok(())
    }
}

/// The task.
pub fn run<B: Board>(appliance: &'static Appliance<B>) {
    let event: &'static Event = Box::leak(Box::new(Event::new()));
    scheduler::bind(events::CONSOLE, event);
    let mut terminal = Terminal { board: appliance.board, event };
    let mut shell = Shell::new();
    let mut seen = 0;
    let mut touched = false;
    // What cannot be printed is lost: the terminal never fails.
    let _ = shell.start(&mut terminal);
    loop {
        if !touched {
            // Until somebody types, the log appears as it grows.
            let mut lines = Vec::new();
            seen = log_ring::read_since(seen, &mut |line| lines.push(line.to_string()));
            for line in lines {
                let _ = shell.announce(&line, &mut terminal);
            }
        }
        let mut buffer = [0; 64];
        let length = appliance.board.console_read(&mut buffer);
        if length == 0 {
            if touched {
                event.wait();
            } else {
                event.wait_until(scheduler::now() + LOG_INTERVAL);
            }
            continue;
        }
        touched = true;
        let mut system = Commands(appliance);
        let _ = shell.receive(buffer.get(..length).unwrap_or_default(), &mut system, &mut terminal);
    }
}

/// The appliance as the commands see it.
struct Commands<B: Board>(&'static Appliance<B>);

fn count(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn access_out(access: flash::Access) -> Access {
    match access {
        flash::Access::None => Access::None,
        flash::Access::Read => Access::Read,
        flash::Access::Write => Access::Write,
    }
}

fn access_in(access: Access) -> flash::Access {
    match access {
        Access::None => flash::Access::None,
        Access::Read => flash::Access::Read,
        Access::Write => flash::Access::Write,
    }
}

impl<B: Board> Commands<B> {
    fn change(&self, change: impl FnOnce(&mut flash::Configuration) -> Outcome) -> Outcome {
        let mut changed = (*self.0.configuration()).clone();
        change(&mut changed)?;
        self.0.save(changed)
    }
}

impl<B: Board> System for Commands<B> {
    fn status(&self) -> console::Status {
        let appliance = self.0;
        let engine = appliance.server.statistics();
        let limits = &appliance.server.configuration().limits;
        let memory = appliance.board.memory();
        let cache = appliance.volumes.cache_statistics();
        let workers = usize::from(appliance.configuration().workers.clamp(4, 20));
        let (busy, most_busy) = appliance.pool.busy();
        console::Status {
            host_name: appliance.configuration().host_name.clone(),
            build: String::from(env!("CARGO_PKG_VERSION")),
            machine: appliance.board.description().to_string(),
            uptime: scheduler::now() / 1_000,
            memory: console::Memory {
                total: memory.total as u64,
                image: memory.image as u64,
                heap: memory.heap as u64,
                used: memory.used as u64,
                high_water: memory.high_water as u64,
            },
            cache,
            workers: (busy, workers),
            workers_high_water: most_busy,
            connections: (count(engine.connections), net::SLOTS),
            sessions: (count(engine.sessions), count(limits.sessions)),
            open_files: (count(engine.open_files), count(limits.open_files)),
            handles: (count(engine.handles), count(limits.handles)),
            requests: appliance.pool.handled(),
            sizes: console::Sizes {
                session: smb::server::SESSION_SIZE,
                open_file: smb::server::OPEN_FILE_SIZE,
                handle: smb::server::HANDLE_SIZE,
            },
        }
    }

    fn threads(&self) -> Vec<console::Thread> {
        let mut threads: Vec<_> = scheduler::threads()
            .into_iter()
            .map(|thread| console::Thread {
                name: thread.name.to_string(),
                state: String::from(if thread.ready { "ready" } else { "waiting" }),
                stack: thread.stack,
                stack_high_water: thread.stack_used,
            })
            .collect();
        threads.sort_by_key(|thread| thread.name != "worker");
        threads
    }

    fn connections(&self) -> Vec<console::Connection> {
        let status = self.0.net_status.borrow();
        let connections = status.connections.iter().map(|(peer, port, logged_on)| console::Connection {
            peer: format!("{peer}"),
            port: *port,
            protection: String::from(if *logged_on { "logged on" } else { "" }),
            ..console::Connection::default()
        });
        connections.collect()
    }

    fn disks(&self) -> Vec<console::Disk> {
        (0..self.0.board.disk_channel_count())
            .map(|channel| {
                let mut disk = self.0.volumes.describe(channel);
                disk.errors = self.0.board.disk_errors(channel);
                if self.0.board.disk_is_gone(channel) {
                    disk.state = String::from("gone");
                }
                disk
            })
            .collect()
    }

    fn disk_speed(&self, disk: usize) -> Outcome<Vec<console::DiskSpeed>> {
        let device = self.0.volumes.device(disk).ok_or("there is no disk")?;
        crate::disk_speed::measure(&*device)
    }

    fn ports(&self) -> Vec<console::Port> {
        let status = self.0.net_status.borrow();
        let ports = status.ports.iter().enumerate().map(|(index, port)| console::Port {
            index,
            model: port.model.clone(),
            address: port.address,
            link: port.link,
            ip_addresses: port.addresses.iter().map(|address| format!("{address}")).collect(),
            gateway: port.router.map(|router| format!("{router}")).unwrap_or_default(),
            received: port.frames.received.into(),
            sent: port.frames.sent.into(),
            errors: u64::from(port.frames.errors) + u64::from(port.frames.overruns) + u64::from(port.damaged),
        });
        ports.collect()
    }

    fn log(&self, visit: &mut dyn FnMut(&str)) {
        log_ring::read_since(0, visit);
    }

    fn disks_of_volume(&self, volume: usize) -> Vec<usize> {
        self.0.volumes.disks_of(volume)
    }

    fn grow_volume(&mut self, volume: usize) -> Outcome<console::Growth> {
        let grown = self.0.change_volumes(|volumes, surroundings| volumes.grow(volume, surroundings))?;
        let storage::volume::Grown { before, after, limited } = grown;
        Ok(console::Growth { before, after, limited })
    }

    fn remove_volume(&mut self, volume: usize) -> Outcome {
        if self.0.volumes.disks_of(volume).is_empty() {
            return Err(String::from("there is no such volume"));
        }
        // The shares first: a volume without shares is no harm, a share without its volume would show the next one.
        self.0.withdraw_shares(volume);
        let kept = self.change(|configuration| {
            configuration.shares.retain(|share| usize::from(share.volume) != volume);
            Ok(())
        });
        self.0.change_volumes(|volumes, surroundings| match kept {
            Ok(()) => volumes.remove(volume, surroundings),
            Err(why) => {
                (surroundings.publish)(volume);
                Err(why)
            }
        })
    }

    fn format(&mut self, disk: usize, format: console::DiskFormat) -> Outcome {
        self.0.change_volumes(|volumes, surroundings| volumes.format(disk, format.file_system, surroundings))
    }

    fn array(&self) -> Option<console::Array> {
        self.0.volumes.describe_array()
    }

    fn adding_loses(&self, disk: usize) -> Outcome<bool> {
        self.0.volumes.adding_loses(disk)
    }

    fn change_array(&mut self, change: console::ArrayChange) -> Outcome {
        self.0.change_volumes(|volumes, surroundings| volumes.change_array(change, surroundings))
    }

    fn check(&mut self, volume: usize, repair: bool, out: &mut dyn fmt::Write) -> Outcome {
        self.0.change_volumes(|volumes, surroundings| volumes.check(volume, repair, surroundings, out))
    }

    fn users(&self) -> Vec<console::User> {
        let configuration = self.0.configuration();
        let users = configuration.users.iter().map(|user| console::User {
            name: user.name.clone(),
            administrator: user.administrator,
            disabled: user.disabled,
        });
        users.collect()
    }

    fn add_user(&mut self, name: &str, password: &str, administrator: bool) -> Outcome {
        let nt_hash = auth::nt_hash(password);
        self.change(|configuration| {
            let number = configuration.next_user_number();
            configuration.users.push(flash::User {
                number,
                name: name.to_string(),
                nt_hash,
                administrator,
                disabled: false,
            });
            Ok(())
        })
    }

    fn remove_user(&mut self, name: &str) -> Outcome {
        self.change(|configuration| {
            configuration.users.retain(|user| !same_name(&user.name, name));
            Ok(())
        })
    }

    fn set_password(&mut self, name: &str, password: &str) -> Outcome {
        let nt_hash = auth::nt_hash(password);
        self.change(|configuration| {
            let user = configuration.users.iter_mut().find(|user| same_name(&user.name, name));
            user.ok_or_else(|| String::from("no such user"))?.nt_hash = nt_hash;
            Ok(())
        })
    }

    fn shares(&self) -> Vec<console::Share> {
        let configuration = self.0.configuration();
        let name_of = |number: u16| {
            let user = configuration.users.iter().find(|user| user.number == number);
            user.map_or_else(|| format!("#{number}"), |user| user.name.clone())
        };
        let shares = configuration.shares.iter().map(|share| console::Share {
            name: share.name.clone(),
            volume: usize::from(share.volume),
            access: access_out(share.access),
            guest: access_out(share.guest),
            exceptions: share
                .exceptions
                .iter()
                .map(|&(number, access)| (name_of(number), access_out(access)))
                .collect(),
            hidden: share.hidden,
            encrypted: share.encrypted,
            comment: share.comment.clone(),
        });
        shares.collect()
    }

    fn add_share(&mut self, share: &console::Share) -> Outcome {
        if self.0.has_share(&share.name) {
            return Err(String::from("there is a share of that name"));
        }
        let configuration = self.0.configuration();
        let number_of = |name: &str| configuration.user(name).map(|user| user.number);
        let exceptions: Option<Vec<_>> = share
            .exceptions
            .iter()
            .map(|(name, access)| Some((number_of(name)?, access_in(*access))))
            .collect();
        let added = flash::Share {
            name: share.name.clone(),
            volume: u8::try_from(share.volume).map_err(|_| String::from("no such volume"))?,
            access: access_in(share.access),
            guest: access_in(share.guest),
            exceptions: exceptions.ok_or_else(|| String::from("no such user"))?,
            hidden: share.hidden,
            encrypted: share.encrypted,
            comment: share.comment.clone(),
        };
        let published = added.clone();
        self.change(|configuration| {
            configuration.shares.push(added);
            Ok(())
        })?;
        self.0.publish(&published);
        Ok(())
    }

    fn remove_share(&mut self, name: &str) -> Outcome {
        self.change(|configuration| {
            configuration.shares.retain(|share| !same_name(&share.name, name));
            Ok(())
        })?;
        self.0.server.remove_share(name);
        Ok(())
    }

    fn wall_clock(&self) -> Option<u64> {
        let clock = self.0.clock;
        clock.is_set().then(|| clock.microseconds(scheduler::now()) / 1_000_000)
    }

    fn set_wall_clock(&mut self, seconds: u64) -> Outcome {
        self.0.board.set_wall_clock(seconds);
        self.0.clock.set(seconds, scheduler::now());
        Ok(())
    }

    fn crash(&self) -> Option<console::Crash> {
        let crash = self.0.crash.borrow();
        let (uptime, text) = crash.as_ref()?;
        Some(console::Crash { uptime: u64::from(*uptime), text: text.clone() })
    }

    fn restart(&mut self, how: console::Restart) -> Outcome {
        self.0.restart(match how {
            console::Restart::Reboot => board::Restart::Reset,
            console::Restart::PowerOff => board::Restart::PowerOff,
        });
        Ok(())
    }
}
