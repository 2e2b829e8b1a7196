//! Mixed work on files, at random, with a diary: what was asked when, and when it was answered. The
//! [oracle](super::oracle) tells from the diaries what must be there after a power cut, and what may be.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::Generator;

/// Why a call did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The server said no, with these words.
    Refused(String),
    /// There is nobody any more who could answer.
    Lost,
}

/// What a call answers.
pub type Answer<T> = Result<T, Failure>;

/// A server's files, or a volume's, as one client sees them. Paths are parted by `\`.
pub trait Files {
    /// An open file.
    type Handle: Copy;

    /// The present moment, on the clock of the cuts.
    fn now(&self) -> u64;
    /// Makes a file, which must not exist, and opens it.
    fn create(&mut self, path: &str) -> Answer<Self::Handle>;
    /// Opens a file.
    fn open(&mut self, path: &str) -> Answer<Self::Handle>;
    /// Makes a directory.
    fn make_directory(&mut self, path: &str) -> Answer<()>;
    /// Writes; `through`: and flushes.
    fn write(&mut self, file: Self::Handle, offset: u64, data: &[u8], through: bool) -> Answer<()>;
    /// Sets the end of a file.
    fn resize(&mut self, file: Self::Handle, size: u64) -> Answer<()>;
    /// Makes a file safe.
    fn flush(&mut self, file: Self::Handle) -> Answer<()>;
    /// Gives a handle back.
    fn close(&mut self, file: Self::Handle) -> Answer<()>;
    /// Moves a file or directory; `replace`: over a file that is there.
    fn rename(&mut self, path: &str, to: &str, replace: bool) -> Answer<()>;
    /// Removes a file or an empty directory, by delete on close.
    fn remove(&mut self, path: &str) -> Answer<()>;
    /// The names in a directory, and whether each is a directory itself.
    fn list(&mut self, path: &str) -> Answer<Vec<(String, bool)>>;
    /// All of a file.
    fn content(&mut self, path: &str) -> Answer<Vec<u8>>;
}

/// What a step does. Files go by number: each gets one when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A new file.
    Create(String, u32),
    /// A new directory.
    MakeDirectory(String),
    /// From, to.
    Rename(String, String),
    /// The name goes.
    Remove(String),
    /// Bytes of a generation; `through`: safe when answered.
    #[allow(missing_docs)]
    Write { file: u32, offset: u64, length: u64, generation: u32, through: bool },
    /// The file's end is set.
    Resize(u32, u64),
    /// The file is safe when answered.
    Flush(u32),
    /// The last handle is given back.
    Close(u32),
}

/// One call.
#[derive(Clone, Debug)]
pub struct Step {
    /// When it was begun.
    pub begun: u64,
    /// When it was answered.
    pub done: Option<u64>,
    /// The answer was no.
    pub refused: bool,
    /// What it was.
    pub action: Action,
}

/// What one client did, in order: it waits for each answer.
#[derive(Clone, Debug, Default)]
pub struct Diary {
    /// The directory that is this client's alone.
    pub root: String,
    /// Its calls.
    pub steps: Vec<Step>,
}

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// Bytes of the longest write.
    pub longest_write: u64,
    /// A file is not made longer than this.
    pub largest_file: u64,
    /// Different names in use, about.
    pub names: u64,
}

/// Bytes of a unit of content: see [`fill`].
pub const UNIT: u64 = 16;

/// The bytes that generation `generation` of file `file` has from `offset` on. Each unit of 16 names its file, generation and
/// place, little-endian: file (4 bytes), generation (4), offset / 16 (4), a sum of these that is not 0 (4). So a block of
/// another file, another place or another time is known for what it is.
pub fn fill(file: u32, generation: u32, offset: u64, bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let place = offset + at as u64;
        let unit = place / UNIT;
        let mut sum = file.wrapping_mul(0x9E37_79B1) ^ generation.wrapping_mul(0x85EB_CA6B) ^ unit as u32;
        sum = (sum ^ (sum >> 15)).wrapping_mul(0x2C1B_3C6D);
        sum = (sum ^ (sum >> 12)).wrapping_mul(0x297A_2D39);
        sum |= 0x0101_0101;
        let mut whole = [0; UNIT as usize];
        for (field, value) in whole.chunks_exact_mut(4).zip([file, generation, unit as u32, sum]) {
            field.copy_from_slice(&value.to_le_bytes());
        }
        let within = (place % UNIT) as usize;
        let length = (UNIT as usize - within).min(bytes.len() - at);
        bytes[at..at + length].copy_from_slice(&whole[within..within + length]);
        at += length;
    }
}

/// All names below a root; files with their numbers, directories with `None`.
pub type Names = BTreeMap<String, Option<u32>>;

/// Carries a rename out on names.
pub(super) fn rename(names: &mut Names, from: &str, to: &str) {
    let prefix = format!("{from}\\");
    let moved: Vec<(String, Option<u32>)> = names
        .iter()
        .filter(|entry| *entry.0 == from || entry.0.starts_with(&prefix))
        .map(|entry| (entry.0.clone(), *entry.1))
        .collect();
    for (old, _) in &moved {
        names.remove(old);
    }
    for (old, what) in moved {
        names.insert(format!("{to}{}", &old[from.len()..]), what);
    }
}

/// A client at work.
pub struct Worker<H> {
    random: Generator,
    habits: Habits,
    /// What it did.
    pub diary: Diary,
    names: Names,
    sizes: BTreeMap<u32, u64>,
    open: Vec<(u32, H)>,
    next_file: u32,
    next_generation: u32,
}

impl<H: Copy> Worker<H> {
    /// A worker whose files have numbers from `first_file` on, in the directory `root`.
    pub fn new(seed: u64, root: &str, first_file: u32, habits: Habits) -> Self {
        Self {
            random: Generator::new(seed),
            habits,
            diary: Diary { root: root.to_string(), steps: Vec::new() },
            names: Names::new(),
            sizes: BTreeMap::new(),
            open: Vec::new(),
            next_file: first_file,
            next_generation: 1,
        }
    }

    fn path(&self, name: &str) -> String {
        match (self.diary.root.is_empty(), name.is_empty()) {
            (true, _) => name.to_string(),
            (false, true) => self.diary.root.clone(),
            (false, false) => format!("{}\\{name}", self.diary.root),
        }
    }

    /// Makes a call and writes it into the diary. `None`: refused.
    fn call<F: Files<Handle = H>, T>(
        &mut self,
        files: &mut F,
        action: Action,
        call: impl FnOnce(&mut F) -> Answer<T>,
    ) -> Answer<Option<T>> {
        let place = self.diary.steps.len();
        self.diary.steps.push(Step { begun: files.now(), done: None, refused: false, action });
        let answer = call(files);
        let step = &mut self.diary.steps[place];
        match answer {
            Ok(value) => {
                step.done = Some(files.now());
                Ok(Some(value))
            }
            Err(Failure::Refused(_)) => {
                step.done = Some(files.now());
                step.refused = true;
                Ok(None)
            }
            Err(Failure::Lost) => Err(Failure::Lost),
        }
    }

    fn pick(&mut self, want: impl Fn(&Option<u32>) -> bool) -> Option<String> {
        let all: Vec<&String> =
            self.names.iter().filter(|entry| want(entry.1)).map(|entry| entry.0).collect();
        if all.is_empty() {
            return None;
        }
        Some(all[self.random.below(all.len() as u64) as usize].clone())
    }

    fn new_name(&mut self) -> String {
        let number = self.random.below(self.habits.names);
        let name = match self.random.below(3) {
            0 => format!("F{number}"),
            1 => format!("name ünïcode {number}"),
            _ => format!("a rather long name that takes some entries, number {number}"),
        };
        if self.random.once_in(3) {
            return name;
        }
        match self.pick(Option::is_none) {
            Some(directory) if directory.matches('\\').count() < 3 => format!("{directory}\\{name}"),
            _ => name,
        }
    }

    /// A handle of a file that is there: one that is open, or a new one.
    fn some_file<F: Files<Handle = H>>(&mut self, files: &mut F) -> Answer<Option<(u32, H)>> {
        if !self.open.is_empty() && self.random.once_in(2) {
            let place = self.random.below(self.open.len() as u64) as usize;
            return Ok(Some(self.open[place]));
        }
        let Some(name) = self.pick(Option::is_some) else { return Ok(None) };
        let Some(file) = self.names.get(&name).copied().flatten() else { return Ok(None) };
        if let Some(open) = self.open.iter().find(|open| open.0 == file) {
            return Ok(Some(*open));
        }
        match files.open(&self.path(&name)) {
            Ok(handle) => {
                self.open.push((file, handle));
                Ok(Some((file, handle)))
            }
            Err(Failure::Refused(_)) => Ok(None),
            Err(Failure::Lost) => Err(Failure::Lost),
        }
    }

    fn close<F: Files<Handle = H>>(&mut self, files: &mut F, place: usize) -> Answer<()> {
        let (file, handle) = self.open.swap_remove(place);
        self.call(files, Action::Close(file), |files| files.close(handle)).map(|_| ())
    }

    /// Gives back handles of a file, or of all files below a directory.
    fn close_below<F: Files<Handle = H>>(&mut self, files: &mut F, name: &str) -> Answer<()> {
        let prefix = format!("{name}\\");
        let below: Vec<u32> = self
            .names
            .iter()
            .filter(|entry| entry.0 == name || entry.0.starts_with(&prefix))
            .filter_map(|entry| *entry.1)
            .collect();
        while let Some(place) = self.open.iter().position(|open| below.contains(&open.0)) {
            self.close(files, place)?;
        }
        Ok(())
    }

    fn write<F: Files<Handle = H>>(
        &mut self,
        files: &mut F,
        (file, handle): (u32, H),
        offset: u64,
    ) -> Answer<()> {
        let longest = match self.random.below(8) {
            0 => self.habits.longest_write,
            1 => 512,
            _ => self.habits.longest_write / 8 + 1,
        };
        let mut length = self.random.below(longest) + 1;
        if self.random.once_in(3) {
            length = length.next_multiple_of(512);
        }
        length = length.min(self.habits.largest_file.saturating_sub(offset));
        if length == 0 {
            return Ok(());
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let through = self.random.once_in(20);
        let mut bytes = alloc::vec![0; length as usize];
        fill(file, generation, offset, &mut bytes);
        let action = Action::Write { file, offset, length, generation, through };
        if self.call(files, action, |files| files.write(handle, offset, &bytes, through))?.is_some() {
            let size = self.sizes.entry(file).or_default();
            *size = (*size).max(offset + length);
        }
        Ok(())
    }

    /// Makes the directory that is this worker's alone. Before everything else.
    pub fn begin<F: Files<Handle = H>>(&mut self, files: &mut F) -> Answer<()> {
        if self.diary.root.is_empty() { Ok(()) } else { files.make_directory(&self.diary.root.clone()) }
    }

    /// Does something. `Err(Lost)` ends the work.
    pub fn step<F: Files<Handle = H>>(&mut self, files: &mut F) -> Answer<()> {
        // Few names make room for more, many for fewer.
        let crowded = self.names.len() as u64 > self.habits.names;
        match self.random.below(100) {
            0..20 if !crowded => {
                let name = self.new_name();
                if self.names.contains_key(&name) {
                    return Ok(());
                }
                let file = self.next_file;
                self.next_file += 1;
                let path = self.path(&name);
                let action = Action::Create(name.clone(), file);
                let Some(handle) = self.call(files, action, |files| files.create(&path))? else {
                    return Ok(());
                };
                self.names.insert(name, Some(file));
                self.sizes.insert(file, 0);
                self.open.push((file, handle));
                if !self.random.once_in(8) {
                    self.write(files, (file, handle), 0)?;
                }
                if self.random.once_in(3) {
                    let place = self.open.len() - 1;
                    self.close(files, place)?;
                }
            }
            20..25 if !crowded => {
                let name = self.new_name();
                if !self.names.contains_key(&name) {
                    let path = self.path(&name);
                    let action = Action::MakeDirectory(name.clone());
                    if self.call(files, action, |files| files.make_directory(&path))?.is_some() {
                        self.names.insert(name, None);
                    }
                }
            }
            0..37 => {
                let Some(name) = self.pick(|_| true) else { return Ok(()) };
                self.close_below(files, &name)?;
                let path = self.path(&name);
                let action = Action::Remove(name.clone());
                if self.call(files, action, |files| files.remove(&path))?.is_some() {
                    self.names.remove(&name);
                }
            }
            37..48 => {
                let (Some(name), to) = (self.pick(|_| true), self.new_name()) else { return Ok(()) };
                if to == name {
                    return Ok(());
                }
                if self.names.contains_key(&to) {
                    self.close_below(files, &to)?;
                }
                if self.random.once_in(2) || self.names.get(&name) == Some(&None) {
                    self.close_below(files, &name)?;
                }
                let (path, target) = (self.path(&name), self.path(&to));
                let action = Action::Rename(name.clone(), to.clone());
                if self.call(files, action, |files| files.rename(&path, &target, true))?.is_some() {
                    self.names.remove(&to);
                    rename(&mut self.names, &name, &to);
                }
            }
            48..62 => {
                // More at the end.
                let Some(open) = self.some_file(files)? else { return Ok(()) };
                let size = self.sizes.get(&open.0).copied().unwrap_or(0);
                self.write(files, open, size)?;
            }
            62..70 => {
                // Over what is there, and perhaps beyond it.
                let Some(open) = self.some_file(files)? else { return Ok(()) };
                let size = self.sizes.get(&open.0).copied().unwrap_or(0);
                let mut offset = self.random.below(size + 1);
                if self.random.once_in(3) {
                    offset -= offset % 512;
                }
                self.write(files, open, offset)?;
            }
            70..74 => {
                // Behind a gap.
                let Some(open) = self.some_file(files)? else { return Ok(()) };
                let size = self.sizes.get(&open.0).copied().unwrap_or(0);
                let offset = size + self.random.below(self.habits.longest_write);
                self.write(files, open, offset)?;
            }
            74..76 => {
                // As files are copied: the size first, then the pieces, which overtake each other; some stay out.
                let Some((file, handle)) = self.some_file(files)? else { return Ok(()) };
                let old = self.sizes.get(&file).copied().unwrap_or(0);
                let piece = self.habits.longest_write / 4;
                let size = (old + piece * (2 + self.random.below(6))).min(self.habits.largest_file);
                if self.call(files, Action::Resize(file, size), |files| files.resize(handle, size))?.is_none()
                {
                    return Ok(());
                }
                self.sizes.insert(file, size);
                let mut offsets: Vec<u64> = (old..size).step_by(piece as usize).collect();
                for place in 1..offsets.len() {
                    offsets.swap(place, place - self.random.below(place.min(2) as u64 + 1) as usize);
                }
                for offset in offsets {
                    if !self.random.once_in(5) {
                        self.write(files, (file, handle), offset)?;
                    }
                }
            }
            76..81 => {
                let Some((file, handle)) = self.some_file(files)? else { return Ok(()) };
                let size = self.sizes.get(&file).copied().unwrap_or(0);
                let size = match self.random.below(4) {
                    0 => 0,
                    1 => (size + self.random.below(self.habits.longest_write)).min(self.habits.largest_file),
                    _ => self.random.below(size + 1),
                };
                let action = Action::Resize(file, size);
                if self.call(files, action, |files| files.resize(handle, size))?.is_some() {
                    self.sizes.insert(file, size);
                }
            }
            81..88 => {
                let Some((file, handle)) = self.some_file(files)? else { return Ok(()) };
                self.call(files, Action::Flush(file), |files| files.flush(handle))?;
            }
            _ => {
                if !self.open.is_empty() {
                    let place = self.random.below(self.open.len() as u64) as usize;
                    self.close(files, place)?;
                }
            }
        }
        while self.open.len() > 4 {
            self.close(files, 0)?;
        }
        Ok(())
    }
}
