//! The array of two disks: put together at the start, made, mended and taken apart from the console, kept equal in the
//! background.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use console::{ArrayChange, ArrayMember, FileSystem};
use storage::BlockDevice;
use storage::mirror::{self, Member, Mirror, MirrorError, Step};
use storage::partition::Layout;

use crate::scheduler::{self, RawMutex};
use crate::volumes::{Surroundings, Volumes, format_error, options};

/// How long a copy rests after a step while clients are at work, in microseconds.
const REST: u64 = 10_000;
/// A disk that failed but is there may have been disturbed once, as by a reset that made it forget its cache: it is tried
/// again at once, and after so many microseconds more each time it fails again.
const SECOND_CHANCE: u64 = 20_000_000;
/// At most so often in a life of the appliance.
const SECOND_CHANCES: u32 = 3;

/// When what could not be copied is tried again, in microseconds.
const RETRY: u64 = 30_000_000;

/// The array, if there is one.
pub(crate) enum Array {
    /// No disk belongs to an array.
    None,
    /// In use.
    Running {
        /// The device over its disks.
        mirror: Arc<Mirror<RawMutex>>,
        /// The channel of the disk in each place of it.
        places: [Option<usize>; 2],
    },
    /// Disks belong to an array that is not in use, and why.
    Refused(MirrorError),
}

/// Second chances of disks that have failed.
#[derive(Clone, Copy, Default)]
pub(crate) struct Chances {
    /// The channel of a disk that somebody took out.
    taken_out: Option<usize>,
    used: u32,
    due: Option<u64>,
}

type Outcome<T = ()> = Result<T, String>;

/// Whether a disk holds nothing: blank, or divided by the appliance and not used yet.
fn is_unused(disk: &dyn BlockDevice) -> bool {
    let Ok(layout) = Layout::read(disk) else { return false };
    let divided =
        layout.private().is_some() && layout.partitions.iter().all(|part| part.file_system.is_none());
    layout.partitions.is_empty() && layout.blank || divided && matches!(mirror::examine(disk), Ok(None))
}

impl Volumes {
    pub(crate) fn mirror(&self) -> Option<Arc<Mirror<RawMutex>>> {
        match &*self.array.borrow() {
            Array::Running { mirror, .. } => Some(mirror.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_refused(&self) -> bool {
        matches!(*self.array.borrow(), Array::Refused(_))
    }

    /// The place in the array of the disk on a channel, failed or not.
    fn place_of(&self, channel: usize) -> Option<usize> {
        self.array_places()?.iter().position(|&place| place == Some(channel))
    }

    /// The channels of the array's disks, by their places in it.
    pub(crate) fn array_places(&self) -> Option<[Option<usize>; 2]> {
        match &*self.array.borrow() {
            Array::Running { places, .. } => Some(*places),
            _ => None,
        }
    }

    fn set_place(&self, index: usize, channel: Option<usize>) {
        if let Array::Running { places, .. } = &mut *self.array.borrow_mut() {
            for place in places.iter_mut().filter(|place| place.is_some() && **place == channel) {
                *place = None;
            }
            if let Some(place) = places.get_mut(index) {
                *place = channel;
            }
        }
    }

    /// Whether the disk on a channel is in the array, failed or not.
    pub(crate) fn is_member(&self, channel: usize) -> bool {
        self.place_of(channel).is_some()
    }

    /// What the disk on a channel is in the array.
    pub(crate) fn member(&self, channel: usize) -> Option<Member> {
        self.mirror()?.status().members.get(self.place_of(channel)?).copied()
    }

    /// What to say of a disk that is in the array.
    pub(crate) fn member_state(&self, channel: usize) -> Option<&'static str> {
        Some(match self.member(channel)? {
            Member::Good => "mirror",
            Member::Failed => "failed",
            Member::Resyncing => "resyncing",
        })
    }

    /// Puts the array together from the disks that belong to it. Where none does, two unused disks become one if `create`
    /// says so.
    pub(crate) fn start_array(&self, create: bool, surroundings: &Surroundings<'_>) {
        let devices = self.devices();
        let belongs = |disk: &Arc<dyn BlockDevice>| matches!(mirror::examine(&**disk), Ok(Some(_)));
        let mut members = devices.iter().filter(|(_, disk)| belongs(disk)).map(|(_, disk)| disk.clone());
        let members = [members.next(), members.next()];
        if members.iter().all(Option::is_none) {
            let unused = devices.len() == 2 && devices.iter().all(|(_, disk)| is_unused(&**disk));
            if create
                && unused
                && let Err(why) = self.create_array(FileSystem::ExFat, surroundings)
            {
                log::error!("array: {why}");
            }
            return;
        }
        match Mirror::assemble(members) {
            Ok(mirror) => {
                let mirror = self.use_array(mirror);
                // A start that was cut off before the volume was made.
                let unformatted = Layout::read(&*mirror).is_ok_and(|layout| layout.data().is_none());
                let outcome = if create && unformatted {
                    self.format_array(FileSystem::ExFat, surroundings)
                } else if unformatted {
                    // Or one that was cut off while the volume was removed.
                    Err(String::from(
                        "no volume; `check 0` looks for damage, `volume del 0` removes what is left",
                    ))
                } else {
                    self.mount_array(surroundings)
                };
                if let Err(why) = outcome {
                    log::error!("array: {why}");
                }
            }
            Err(why) => {
                log::error!("array: {why}");
                self.array.replace(Array::Refused(why));
            }
        }
        for (channel, disk) in devices {
            if !self.is_member(channel) && is_unused(&*disk) {
                self.take_into_array(channel, None, surroundings);
            }
        }
    }

    /// From now on there is this array.
    fn use_array(&self, mirror: Mirror<RawMutex>) -> Arc<Mirror<RawMutex>> {
        let mirror = Arc::new(mirror);
        let mut places = [None; 2];
        for (channel, disk) in self.devices() {
            if let Some(place) = mirror.index_of(&disk).and_then(|index| places.get_mut(index)) {
                *place = Some(channel);
            }
        }
        let members = mirror.status().members;
        log::info!("array: {members:?}");
        self.array.replace(Array::Running { mirror: mirror.clone(), places });
        self.array_work.signal();
        mirror
    }

    fn mount_array(&self, surroundings: &Surroundings<'_>) -> Outcome {
        let mirror = self.mirror().ok_or("there is no array")?;
        let data = mirror.data().ok_or("the array has no room for a volume")?;
        self.mount(0, data, mirror.journal(), surroundings)
    }

    pub(crate) fn format_array(&self, file_system: FileSystem, surroundings: &Surroundings<'_>) -> Outcome {
        let mirror = self.mirror().ok_or("there is no array")?;
        self.unmount(0, surroundings);
        log::info!("array: formatting");
        let data = mirror.data().ok_or("the array has no room for a volume")?;
        let options = options(0, file_system, surroundings);
        storage::format::volume(&*data, mirror.data_start(), &options).map_err(format_error)?;
        self.mount_array(surroundings)
    }

    /// Gives a disk that has come to the array, if that may be done without asking: it was in it, or is unused.
    /// `before` was on the channel.
    pub(crate) fn take_into_array(
        &self,
        channel: usize,
        before: Option<Arc<dyn BlockDevice>>,
        surroundings: &Surroundings<'_>,
    ) -> bool {
        let Some(disk) = self.device(channel) else { return false };
        let Some(mirror) = self.mirror() else {
            let belongs = matches!(mirror::examine(&*disk), Ok(Some(_)));
            if belongs {
                self.begin_anew(surroundings);
            }
            return belongs;
        };
        // What was here has left, whether the array has noticed or not. Its only good disk cannot be failed: then all
        // begins anew.
        if let Some(index) = before.and_then(|before| mirror.index_of(&before))
            && mirror.fail(index).is_err()
        {
            self.begin_anew(surroundings);
            return true;
        }
        let Some(index) = mirror.status().members.iter().position(|&member| member == Member::Failed) else {
            return false;
        };
        self.chances.set(Chances { taken_out: None, ..self.chances.get() });
        if self.place_of(channel).is_some_and(|place| place == index) {
            self.set_place(index, None);
        }
        let outcome = match mirror.is_returning(index, &*disk) {
            Ok(true) => mirror.replace(index, disk, None),
            Ok(false) if is_unused(&*disk) => match mirror.divide_like(&*disk, surroundings.unique()) {
                Ok(()) => mirror.replace(index, disk, Some(surroundings.entropy.next_u64())),
                Err(_) => Err(MirrorError::Layout),
            },
            Ok(false) => Err(MirrorError::Foreign),
            Err(why) => Err(why),
        };
        match outcome {
            Ok(()) => {
                log::info!("channel {channel}: the array's disk {index} is being brought up to date");
                self.set_place(index, Some(channel));
                self.array_work.signal();
                true
            }
            Err(why) => {
                log::warn!(
                    "channel {channel}: not taken into the array: {why}; `array add {channel}` overwrites it"
                );
                false
            }
        }
    }

    /// Gives a disk a second chance that has failed, is still there, and was not taken out by somebody: its bus may have
    /// been disturbed, or its power. Called now and then.
    pub fn tend_array(&self, gone: impl Fn(usize) -> bool) {
        let _changing = self.changing.lock();
        let Some(mirror) = self.mirror() else { return };
        let failed = mirror.status().members.iter().position(|&member| member == Member::Failed);
        let mut chances = self.chances.get();
        let Some(index) = failed else {
            chances.due = None;
            return self.chances.set(chances);
        };
        let Some(places) = self.array_places() else { return };
        let channel = places.get(index).copied().flatten().filter(|&channel| !gone(channel));
        let Some((channel, disk)) = channel.and_then(|channel| Some((channel, self.device(channel)?))) else {
            return;
        };
        if chances.taken_out == Some(channel) || chances.used >= SECOND_CHANCES {
            return;
        }
        let now = scheduler::now();
        let due = *chances.due.get_or_insert(now + SECOND_CHANCE * u64::from(chances.used));
        if now >= due {
            chances.due = None;
            chances.used += 1;
            match mirror.replace(index, disk, None) {
                Ok(()) => {
                    log::info!("channel {channel}: the array's disk {index} has a second chance");
                    self.array_work.signal();
                }
                Err(why) => log::error!("channel {channel}: {why}"),
            }
        }
        self.chances.set(chances);
    }

    /// Lets go of everything and looks at all disks again.
    pub(crate) fn begin_anew(&self, surroundings: &Surroundings<'_>) {
        self.let_go(surroundings);
        self.start_array(false, surroundings);
        for (channel, _) in self.devices() {
            if !self.is_member(channel) {
                self.take_single(channel, false, surroundings);
            }
        }
    }

    pub(crate) fn let_go(&self, surroundings: &Surroundings<'_>) {
        let count = self.devices().iter().map(|(channel, _)| channel + 1).max().unwrap_or(0);
        (0..count.max(2)).for_each(|number| self.unmount(number, surroundings));
        self.rest_array();
        if let Some(mirror) = self.mirror() {
            mirror.release();
        }
        self.array.replace(Array::None);
    }

    /// With no volume in use: notes that the disks are equal.
    pub(crate) fn rest_array(&self) {
        if let Some(mirror) = self.mirror() {
            // What was written since the last time rests at the second.
            if let Err(why) = mirror.maintain().and_then(|()| mirror.maintain()) {
                log::error!("array: {why}");
            }
        }
    }

    /// Keeps the array's disks equal. Clients go first.
    pub fn work_on_array(&self) {
        let mut seen = 0;
        let mut failing = false;
        loop {
            let Some(mirror) = self.mirror() else {
                self.array_work.wait();
                continue;
            };
            let outcome = match mirror.resync() {
                Ok(Step::Done) => mirror.scrub(),
                other => other,
            };
            let commands = mirror.commands();
            drop(mirror);
            let failed_before = core::mem::replace(&mut failing, outcome.is_err());
            match outcome {
                Ok(Step::More) if commands != seen => scheduler::sleep(REST),
                Ok(Step::More) => scheduler::yield_now(),
                Ok(Step::Done) => self.array_work.wait(),
                Ok(Step::Stuck) => {
                    self.array_work.wait_until(scheduler::now() + RETRY);
                }
                Err(why) => {
                    if !failed_before {
                        log::error!("array: {why}");
                    }
                    self.array_work.wait_until(scheduler::now() + RETRY);
                }
            }
            seen = commands;
        }
    }

    /// What the console asked for.
    pub fn change_array(&self, change: ArrayChange, surroundings: &Surroundings<'_>) -> Outcome {
        let _changing = self.changing.lock();
        let outcome = match change {
            ArrayChange::Create(file_system) => {
                self.let_go(surroundings);
                self.create_array(file_system, surroundings)
            }
            ArrayChange::Add(channel) => self.add_to_array(channel, surroundings),
            ArrayChange::Fail(channel) => self.fail_in_array(channel),
            ArrayChange::Choose(channel) => self.choose(channel, surroundings),
            ArrayChange::Scrub(begin) => self.scrub(begin),
            ArrayChange::Split => self.split(surroundings),
        };
        if outcome.is_err() && matches!(change, ArrayChange::Create(_) | ArrayChange::Choose(_)) {
            // Whatever is left goes on.
            self.begin_anew(surroundings);
        }
        self.array_work.signal();
        outcome
    }

    fn create_array(&self, file_system: FileSystem, surroundings: &Surroundings<'_>) -> Outcome {
        let devices = self.devices();
        let [(_, one), (_, two)] = devices.as_slice() else {
            return Err(String::from("an array needs two disks"));
        };
        if one.block_size() != two.block_size() {
            return Err(String::from("the disks' blocks have different sizes"));
        }
        let untouched = |disk: &Arc<dyn BlockDevice>| mirror::is_untouched(&**disk).unwrap_or(false);
        let equal = untouched(one) && untouched(two);
        let blocks = one.blocks().min(two.blocks());
        for disk in [one, two] {
            storage::format::divide(&**disk, blocks, surroundings.unique()).map_err(format_error)?;
        }
        let mirror = Mirror::create([one.clone(), two.clone()], surroundings.unique(), equal);
        self.use_array(mirror.map_err(|why| why.to_string())?);
        self.format_array(file_system, surroundings)
    }

    /// The disk that a new one would stand beside to make an array, and the new one's place.
    fn other_disk(&self, channel: usize) -> Outcome<(Arc<dyn BlockDevice>, usize)> {
        let devices = self.devices();
        let mut others = devices.iter().filter(|(other, _)| *other != channel);
        let (Some((other, disk)), None) = (others.next(), others.next()) else {
            return Err(String::from("an array needs two disks"));
        };
        Ok((disk.clone(), usize::from(channel > *other)))
    }

    /// Whether adding the disk on a channel destroys what it holds.
    pub fn adding_loses(&self, channel: usize) -> Outcome<bool> {
        let disk = self.device(channel).ok_or("there is no disk")?;
        let returns = match (self.mirror(), self.failed_place(channel)) {
            (Some(mirror), Ok(index)) => mirror.is_returning(index, &*disk) == Ok(true),
            (Some(_), Err(why)) => return Err(why),
            (None, _) => false,
        };
        Ok(!returns && !is_unused(&*disk))
    }

    /// The place that the disk on a channel could take in the array.
    fn failed_place(&self, channel: usize) -> Outcome<usize> {
        let mirror = self.mirror().ok_or("there is no array")?;
        let index = mirror.status().members.iter().position(|&member| member == Member::Failed);
        let index = index.ok_or("no disk of the array has failed")?;
        match self.place_of(channel) {
            Some(place) if place != index => Err(String::from("the disk is in the array")),
            _ => Ok(index),
        }
    }

    fn add_to_array(&self, channel: usize, surroundings: &Surroundings<'_>) -> Outcome {
        let disk = self.device(channel).ok_or("there is no disk")?;
        let refused = |why: MirrorError| why.to_string();
        if self.is_refused() {
            return Err(String::from("`array choose` says first which disk counts"));
        }
        let Some(mirror) = self.mirror() else {
            let (other, index) = self.other_disk(channel)?;
            mirror::divide_alike(&*disk, &*other, surroundings.unique()).map_err(refused)?;
            self.let_go(surroundings);
            let disks = if index == 0 { [disk, other] } else { [other, disk] };
            match Mirror::grow(disks, 1 - index, surroundings.unique()) {
                Ok(mirror) => drop(self.use_array(mirror)),
                Err(why) => {
                    self.begin_anew(surroundings);
                    return Err(refused(why));
                }
            }
            return self.mount_array(surroundings);
        };
        let index = self.failed_place(channel)?;
        self.chances.set(Chances::default());
        if mirror.is_returning(index, &*disk) == Ok(true) {
            mirror.replace(index, disk, None).map_err(refused)?;
        } else {
            if !self.is_member(channel) {
                self.unmount(self.volume_of(channel), surroundings);
            }
            mirror.divide_like(&*disk, surroundings.unique()).map_err(format_error)?;
            mirror.replace(index, disk, Some(surroundings.entropy.next_u64())).map_err(refused)?;
        }
        self.set_place(index, Some(channel));
        Ok(())
    }

    fn fail_in_array(&self, channel: usize) -> Outcome {
        let mirror = self.mirror().ok_or("there is no array")?;
        let index = self.place_of(channel).ok_or("the disk is not in the array")?;
        mirror.fail(index).map_err(|why| match why {
            MirrorError::Incomplete => String::from("the other disk is not good"),
            why => why.to_string(),
        })?;
        self.chances.set(Chances { taken_out: Some(channel), ..self.chances.get() });
        Ok(())
    }

    fn choose(&self, channel: usize, surroundings: &Surroundings<'_>) -> Outcome {
        if !self.is_refused() {
            return Err(String::from("there is nothing to choose"));
        }
        let disk = self.device(channel).ok_or("there is no disk")?;
        let chosen = Mirror::choose(disk, surroundings.entropy.next_u64()).map_err(|why| why.to_string())?;
        for (other, disk) in self.devices() {
            if other != channel && matches!(mirror::examine(&*disk), Ok(Some(_))) {
                mirror::erase(&*disk).map_err(|why| why.to_string())?;
            }
        }
        self.let_go(surroundings);
        self.use_array(chosen);
        let outcome = self.mount_array(surroundings);
        for (other, _) in self.devices() {
            if other != channel {
                self.take_single(other, false, surroundings);
            }
        }
        outcome
    }

    fn scrub(&self, begin: bool) -> Outcome {
        let mirror = self.mirror().ok_or("there is no array")?;
        if begin {
            return mirror.start_scrub().map_err(|_| String::from("both disks have to be good"));
        }
        mirror.stop_scrub();
        Ok(())
    }

    fn split(&self, surroundings: &Surroundings<'_>) -> Outcome {
        if matches!(*self.array.borrow(), Array::None) {
            return Err(String::from("there is no array"));
        }
        self.let_go(surroundings);
        let mut outcome = Ok(());
        for (_, disk) in self.devices() {
            if matches!(mirror::examine(&*disk), Ok(Some(_)))
                && let Err(why) = mirror::erase(&*disk)
            {
                outcome = Err(why.to_string());
            }
        }
        self.begin_anew(surroundings);
        outcome
    }

    /// The array for the console.
    pub fn describe_array(&self) -> Option<console::Array> {
        let (mirror, places) = match &*self.array.borrow() {
            Array::None => return None,
            Array::Refused(why) => (Err(*why), [None; 2]),
            Array::Running { mirror, places } => (Ok(mirror.clone()), *places),
        };
        let mirror = match mirror {
            Ok(mirror) => mirror,
            Err(why) => {
                let members = self.devices().into_iter().filter_map(|(channel, disk)| {
                    let superblock = mirror::examine(&*disk).ok()??;
                    let state = format!(
                        "disk {} of its array, generation {}",
                        superblock.index, superblock.generation
                    );
                    Some(ArrayMember { disk: Some(channel), state, repaired: 0 })
                });
                let members: Vec<ArrayMember> = members.collect();
                let state = format!("not in use: {why}; `array choose DISK` says which disk counts");
                return Some(console::Array { state, members, ..console::Array::default() });
            }
        };
        let status = mirror.status();
        let state = match status.members {
            [Member::Good, Member::Good] => "good",
            members if members.contains(&Member::Failed) => "degraded: one disk alone has everything",
            _ => "being brought up to date",
        };
        let members = places.iter().zip(status.members).zip(status.repaired);
        let members = members.map(|((&disk, member), repaired)| {
            let state = match (member, disk) {
                (Member::Good, _) => "good",
                (Member::Failed, Some(_)) => "failed",
                (Member::Failed, None) => "missing",
                (Member::Resyncing, _) => "resyncing",
            };
            ArrayMember { disk, state: String::from(state), repaired }
        });
        let (lacking, total) = status.lacking;
        let resyncing = status.members.contains(&Member::Resyncing);
        Some(console::Array {
            state: String::from(state),
            running: true,
            members: members.collect(),
            resync: resyncing.then(|| (u64::from(total.saturating_sub(lacking)), u64::from(total))),
            unreadable: status.unreadable,
            scrub: status.scrub,
            differences: (status.scrub.is_some() && !status.settles || status.scrubbed)
                .then_some(status.differences),
            active: status.dirty_regions,
        })
    }
}
