//! An appliance for the tests.

use core::fmt::Write;

use crate::command::share::parse_share;
use crate::system::*;

/// An appliance that notes what it was asked to do.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) array: Option<Array>,
    pub(crate) done: Vec<String>,
    pub(crate) handles: usize,
}

impl System for Model {
    fn status(&self) -> Status {
        Status {
            host_name: "NAS".into(),
            build: "0.1.0".into(),
            machine: "PowerPC 750 revision 3.1, MPC106".into(),
            uptime: 93_784_000,
            memory: Memory {
                total: 512 << 20,
                image: 700 << 10,
                heap: 300 << 20,
                used: 5 << 20,
                high_water: 6 << 20,
            },
            cache: Cache { total: 200 << 20, used: 100 << 20, dirty: 4096, hits: 9, misses: 1 },
            workers: (2, 16),
            workers_high_water: 7,
            sizes: Sizes { session: 280, open_file: 96, handle: 24 },
            ..Status::default()
        }
    }

    fn threads(&self) -> Vec<Thread> {
        vec![Thread { name: "worker 0".into(), state: "idle".into(), stack: 16384, stack_high_water: 4096 }]
    }

    fn connections(&self) -> Vec<Connection> {
        vec![Connection {
            peer: "[fe80::5054:ff:fe12:3456]:50123".into(),
            port: 1,
            dialect: "3.1.1".into(),
            user: "ada".into(),
            protection: "encrypted".into(),
            handles: self.handles,
        }]
    }

    fn disks(&self) -> Vec<Disk> {
        let volume = VolumeUse {
            index: 0,
            label: "NAS".into(),
            file_system: "exFAT".into(),
            total: 4 << 30,
            free: 3 << 30,
        };
        let good = Disk {
            channel: 0,
            model: "QEMU QEMU HARDDISK".into(),
            size: 4 << 30,
            state: "online".into(),
            errors: 0,
            volume: Some(volume),
        };
        let blank = Disk { channel: 1, volume: None, ..good.clone() };
        vec![good, blank, Disk { channel: 2, state: "no disk".into(), ..Disk::default() }]
    }

    fn disk_speed(&self, disk: usize) -> Outcome<Vec<DiskSpeed>> {
        if disk > 0 {
            return Err("there is no disk".into());
        }
        Ok(vec![DiskSpeed { bytes: 1 << 20, at_once: 4, commands: 200, microseconds: 500_000 }])
    }

    fn ports(&self) -> Vec<Port> {
        vec![Port {
            index: 0,
            model: "Intel 82559ER".into(),
            address: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            link: true,
            ip_addresses: vec!["10.0.2.15/24 (DHCP)".into(), "fe80::5054:ff:fe12:3456/64".into()],
            gateway: "10.0.2.2".into(),
            received: 7,
            sent: 8,
            errors: 9,
        }]
    }

    fn log(&self, visit: &mut dyn FnMut(&str)) {
        for number in 0..100 {
            visit(&format!("line {number}"));
        }
    }

    fn disks_of_volume(&self, volume: usize) -> Vec<usize> {
        match volume {
            0 => vec![0, 1],
            1 => vec![1],
            _ => vec![],
        }
    }

    fn grow_volume(&mut self, volume: usize) -> Outcome<Growth> {
        self.done.push(format!("grow volume {volume}"));
        Ok(Growth { before: 4 << 30, after: 9 << 30, limited: volume == 1 })
    }

    fn remove_volume(&mut self, volume: usize) -> Outcome {
        self.done.push(format!("remove volume {volume}"));
        Ok(())
    }

    fn format(&mut self, disk: usize, format: DiskFormat) -> Outcome {
        self.done.push(format!("format {disk} {:?}", format.file_system));
        Ok(())
    }

    fn array(&self) -> Option<Array> {
        self.array.clone()
    }

    fn adding_loses(&self, disk: usize) -> Outcome<bool> {
        if disk < 2 { Ok(disk == 1) } else { Err("there is no such disk".into()) }
    }

    fn change_array(&mut self, change: ArrayChange) -> Outcome {
        self.done.push(format!("{change:?}"));
        Ok(())
    }

    fn check(&mut self, volume: usize, repair: bool, out: &mut dyn Write) -> Outcome {
        self.done.push(format!("check {volume} {repair}"));
        writeln!(out, "nothing is wrong").map_err(|_| String::new())
    }

    fn users(&self) -> Vec<User> {
        vec![User { name: "ada".into(), administrator: true, disabled: false }]
    }

    fn add_user(&mut self, name: &str, password: &str, administrator: bool) -> Outcome {
        self.done.push(format!("add user {name} {password} {administrator}"));
        Ok(())
    }

    fn remove_user(&mut self, name: &str) -> Outcome {
        self.done.push(format!("remove user {name}"));
        Err("the flash is full".into())
    }

    fn set_password(&mut self, name: &str, password: &str) -> Outcome {
        self.done.push(format!("password {name} {password}"));
        Ok(())
    }

    fn shares(&self) -> Vec<Share> {
        vec![parse_share("data", 0, &["guest-ro", "hidden", "ada=ro"]).unwrap()]
    }

    fn add_share(&mut self, share: &Share) -> Outcome {
        self.done.push(format!("add share {} {} {:?}", share.name, share.volume, share.access));
        Ok(())
    }

    fn remove_share(&mut self, name: &str) -> Outcome {
        self.done.push(format!("remove share {name}"));
        Ok(())
    }

    fn wall_clock(&self) -> Option<u64> {
        Some(1_000_000_000)
    }

    fn set_wall_clock(&mut self, seconds: u64) -> Outcome {
        self.done.push(format!("clock {seconds}"));
        Ok(())
    }

    fn crash(&self) -> Option<Crash> {
        Some(Crash { uptime: 61, text: "panic\nbacktrace\n".into() })
    }

    fn restart(&mut self, how: Restart) -> Outcome {
        self.done.push(format!("{how:?}"));
        Ok(())
    }
}
