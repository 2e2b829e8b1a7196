//! A directory of the host as a volume.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use smb::environment::{
    Entry, Metadata, MetadataChange, NodeKind, Space, Volume, VolumeError, VolumeInformation,
};
use smb::fscc::{FileAttributes, FileTime, equal_names};
use smb::memory::MemoryVolume;

/// Either kind of volume that this example serves.
pub enum AnyVolume {
    /// A directory.
    Directory(DirectoryVolume),
    /// Memory.
    Memory(MemoryVolume),
}

/// A directory of the host. Names are matched without regard to case by looking through the directory; HIDDEN and
/// SYSTEM are not kept.
pub struct DirectoryVolume {
    root: PathBuf,
    nodes: Mutex<Nodes>,
}

#[derive(Default)]
struct Nodes {
    next: u32,
    open: HashMap<u32, OpenNode>,
}

struct OpenNode {
    inode: u64,
    path: PathBuf,
    file: Option<File>,
    uses: u32,
    /// The names of a directory while it is listed.
    listing: Vec<String>,
}

fn failure(error: &std::io::Error) -> VolumeError {
    match error.kind() {
        ErrorKind::NotFound => VolumeError::NotFound,
        ErrorKind::AlreadyExists => VolumeError::Exists,
        ErrorKind::NotADirectory => VolumeError::PathNotFound,
        ErrorKind::IsADirectory => VolumeError::IsADirectory,
        ErrorKind::DirectoryNotEmpty => VolumeError::NotEmpty,
        ErrorKind::StorageFull => VolumeError::Full,
        ErrorKind::FileTooLarge => VolumeError::TooLarge,
        ErrorKind::InvalidFilename => VolumeError::NameInvalid,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => VolumeError::ReadOnly,
        _ => VolumeError::Io,
    }
}

fn io<T>(result: std::io::Result<T>) -> Result<T, VolumeError> {
    result.map_err(|error| failure(&error))
}

fn file_time(time: std::io::Result<SystemTime>) -> FileTime {
    let since = time.ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    FileTime::from_unix(since.as_secs() as i64, since.subsec_nanos())
}

fn system_time(time: FileTime) -> SystemTime {
    let (seconds, nanoseconds) = time.to_unix();
    UNIX_EPOCH + Duration::new(seconds.max(0) as u64, nanoseconds)
}

fn describe(metadata: &fs::Metadata) -> Metadata {
    let directory = metadata.is_dir();
    let mut attributes = FileAttributes::empty();
    if directory {
        attributes |= FileAttributes::DIRECTORY;
    } else {
        attributes |= FileAttributes::ARCHIVE;
        if metadata.permissions().readonly() {
            attributes |= FileAttributes::READONLY;
        }
    }
    Metadata {
        kind: if directory { NodeKind::Directory } else { NodeKind::File },
        attributes,
        size: if directory { 0 } else { metadata.len() },
        allocated: if directory { 0 } else { metadata.blocks() * 512 },
        created: file_time(metadata.created()),
        accessed: file_time(metadata.accessed()),
        modified: file_time(metadata.modified()),
        file_id: metadata.ino(),
    }
}

impl DirectoryVolume {
    /// Serves `root`.
    ///
    /// # Errors
    /// There is no such directory.
    pub fn new(root: PathBuf) -> std::io::Result<DirectoryVolume> {
        let root = fs::canonicalize(root)?;
        fs::read_dir(&root)?;
        Ok(DirectoryVolume { root, nodes: Mutex::new(Nodes { next: 1, ..Nodes::default() }) })
    }

    /// The entry of `directory` that `name` means.
    fn find(&self, directory: &Path, name: &[u16]) -> Result<Option<PathBuf>, VolumeError> {
        let text = String::from_utf16(name).map_err(|_| VolumeError::NameInvalid)?;
        let exact = directory.join(&text);
        if fs::symlink_metadata(&exact).is_ok() {
            return Ok(Some(exact));
        }
        for entry in io(fs::read_dir(directory))? {
            let entry = io(entry)?;
            let units: Vec<u16> = entry.file_name().to_string_lossy().encode_utf16().collect();
            if equal_names(&units, name) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// The host's path of the directory that `path` lies in, and the last component.
    fn locate<'a>(&self, path: &'a [u16]) -> Result<(PathBuf, &'a [u16]), VolumeError> {
        let mut components = path.split(|unit| *unit == u16::from(b'\\'));
        let mut last = components.next().unwrap_or(&[]);
        let mut directory = self.root.clone();
        for component in components {
            directory = self.find(&directory, last)?.ok_or(VolumeError::PathNotFound)?;
            if !directory.is_dir() {
                return Err(VolumeError::PathNotFound);
            }
            last = component;
        }
        Ok((directory, last))
    }

    fn enter(&self, path: PathBuf) -> Result<u32, VolumeError> {
        let metadata = io(fs::symlink_metadata(&path))?;
        if metadata.is_symlink() {
            // Nothing outside the directory is served.
            return Err(VolumeError::NotFound);
        }
        let mut nodes = self.nodes.lock().unwrap();
        for (number, node) in &mut nodes.open {
            if node.inode == metadata.ino() {
                node.uses += 1;
                return Ok(*number);
            }
        }
        let file = if metadata.is_dir() {
            None
        } else {
            let options = OpenOptions::new().read(true).write(true).open(&path);
            Some(io(options.or_else(|_| File::open(&path)))?)
        };
        let number = nodes.next;
        nodes.next = number.checked_add(1).ok_or(VolumeError::NoResources)?;
        let node = OpenNode { inode: metadata.ino(), path, file, uses: 1, listing: Vec::new() };
        nodes.open.insert(number, node);
        Ok(number)
    }

    fn with<T>(
        &self,
        node: u32,
        act: impl FnOnce(&mut OpenNode) -> Result<T, VolumeError>,
    ) -> Result<T, VolumeError> {
        act(self.nodes.lock().unwrap().open.get_mut(&node).ok_or(VolumeError::Stale)?)
    }

    fn file(&self, node: u32) -> Result<File, VolumeError> {
        self.with(node, |node| io(node.file.as_ref().ok_or(VolumeError::IsADirectory)?.try_clone()))
    }

    fn open(&self, path: &[u16]) -> Result<u32, VolumeError> {
        if path.is_empty() {
            return self.enter(self.root.clone());
        }
        let (directory, name) = self.locate(path)?;
        self.enter(self.find(&directory, name)?.ok_or(VolumeError::NotFound)?)
    }

    fn create(&self, path: &[u16], kind: NodeKind, attributes: FileAttributes) -> Result<u32, VolumeError> {
        let (directory, name) = self.locate(path)?;
        if self.find(&directory, name)?.is_some() {
            return Err(VolumeError::Exists);
        }
        let path = directory.join(String::from_utf16(name).map_err(|_| VolumeError::NameInvalid)?);
        match kind {
            NodeKind::Directory => io(fs::create_dir(&path))?,
            NodeKind::File => drop(io(File::create_new(&path))?),
        }
        let node = self.enter(path)?;
        if attributes.contains(FileAttributes::READONLY) {
            let change = MetadataChange { attributes: Some(attributes), ..MetadataChange::default() };
            self.change_metadata(node, &change)?;
        }
        Ok(node)
    }

    fn change_metadata(&self, node: u32, change: &MetadataChange) -> Result<(), VolumeError> {
        self.with(node, |node| {
            if let (Some(attributes), Some(_)) = (change.attributes, &node.file) {
                let mut permissions = io(fs::metadata(&node.path))?.permissions();
                #[allow(
                    clippy::permissions_set_readonly_false,
                    reason = "the umask's bits are the best there is"
                )]
                permissions.set_readonly(attributes.contains(FileAttributes::READONLY));
                io(fs::set_permissions(&node.path, permissions))?;
            }
            let mut times = FileTimes::new();
            if let Some(accessed) = change.accessed {
                times = times.set_accessed(system_time(accessed));
            }
            if let Some(modified) = change.modified {
                times = times.set_modified(system_time(modified));
            }
            match &node.file {
                Some(file) => io(file.set_times(times)),
                None => io(File::open(&node.path).and_then(|directory| directory.set_times(times))),
            }
        })
    }

    fn rename(&self, node: u32, path: &[u16], replace: bool) -> Result<(), VolumeError> {
        let (directory, name) = self.locate(path)?;
        let text = String::from_utf16(name).map_err(|_| VolumeError::NameInvalid)?;
        let from = self.with(node, |node| Ok(node.path.clone()))?;
        if let Some(other) = self.find(&directory, name)?
            && other != from
        {
            if !replace {
                return Err(VolumeError::Exists);
            }
            let inode = io(fs::metadata(&other))?.ino();
            if self.nodes.lock().unwrap().open.values().any(|node| node.inode == inode) {
                return Err(VolumeError::InUse);
            }
            io(fs::remove_file(&other))?;
        }
        let to = directory.join(text);
        io(fs::rename(&from, &to))?;
        for node in self.nodes.lock().unwrap().open.values_mut() {
            if let Ok(rest) = node.path.strip_prefix(&from) {
                node.path = if rest.as_os_str().is_empty() { to.clone() } else { to.join(rest) };
            }
        }
        Ok(())
    }

    fn list(
        &self,
        directory: u32,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError> {
        let (path, listing) = self.with(directory, |node| {
            if node.file.is_some() {
                return Err(VolumeError::NotADirectory);
            }
            if cursor == 0 {
                let mut names = Vec::new();
                for entry in io(fs::read_dir(&node.path))? {
                    names.push(io(entry)?.file_name().to_string_lossy().into_owned());
                }
                names.sort();
                node.listing = names;
            }
            Ok((node.path.clone(), node.listing.clone()))
        })?;
        for (index, name) in listing.iter().enumerate().skip(cursor as usize) {
            let Ok(metadata) = fs::symlink_metadata(path.join(name)) else { continue };
            if metadata.is_symlink() {
                continue;
            }
            let units: Vec<u16> = name.encode_utf16().collect();
            let metadata = describe(&metadata);
            if !visit(&Entry { name: &units, short_name: None, metadata, cursor: index as u64 + 1 }) {
                break;
            }
        }
        Ok(())
    }
}

/// Calls the volume behind either variant.
macro_rules! either {
    ($volume:expr, $inner:ident => $memory:expr, $directory:expr) => {
        match $volume {
            AnyVolume::Memory($inner) => $memory,
            AnyVolume::Directory($inner) => $directory,
        }
    };
}

impl Volume for AnyVolume {
    type Node = u32;
    type Payload = Vec<u8>;

    fn open(&self, path: &[u16]) -> Result<u32, VolumeError> {
        either!(self, volume => volume.open(path), volume.open(path))
    }

    fn create(&self, path: &[u16], kind: NodeKind, attributes: FileAttributes) -> Result<u32, VolumeError> {
        either!(self, volume => volume.create(path, kind, attributes), volume.create(path, kind, attributes))
    }

    fn close(&self, node: u32) -> Result<(), VolumeError> {
        either!(self, volume => volume.close(node), {
            let mut nodes = volume.nodes.lock().unwrap();
            let open = nodes.open.get_mut(&node).ok_or(VolumeError::Stale)?;
            open.uses -= 1;
            if open.uses == 0 {
                nodes.open.remove(&node);
            }
            Ok(())
        })
    }

    fn metadata(&self, node: u32) -> Result<Metadata, VolumeError> {
        either!(self, volume => volume.metadata(node), volume.with(node, |node| {
            let metadata = match &node.file {
                Some(file) => file.metadata(),
                None => fs::metadata(&node.path),
            };
            Ok(describe(&io(metadata)?))
        }))
    }

    fn change_metadata(&self, node: u32, change: &MetadataChange) -> Result<(), VolumeError> {
        either!(self, volume => volume.change_metadata(node, change), volume.change_metadata(node, change))
    }

    fn path(&self, node: u32, path: &mut Vec<u16>) -> Result<(), VolumeError> {
        either!(self, volume => volume.path(node, path), volume.with(node, |node| {
            let relative = node.path.strip_prefix(&volume.root).map_err(|_| VolumeError::Corrupt)?;
            let text = relative.to_string_lossy().replace('/', "\\");
            path.extend(text.encode_utf16());
            Ok(())
        }))
    }

    fn read(&self, node: u32, offset: u64, length: u32) -> Result<Vec<u8>, VolumeError> {
        either!(self, volume => volume.read(node, offset, length), {
            let file = volume.file(node)?;
            let mut bytes = vec![0; length as usize];
            let mut filled = 0;
            while filled < bytes.len() {
                match io(file.read_at(&mut bytes[filled..], offset + filled as u64))? {
                    0 => break,
                    count => filled += count,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        })
    }

    fn write(&self, node: u32, offset: u64, data: &[u8]) -> Result<(), VolumeError> {
        either!(self, volume => volume.write(node, offset, data), {
            io(volume.file(node)?.write_all_at(data, offset))
        })
    }

    fn set_size(&self, node: u32, size: u64) -> Result<(), VolumeError> {
        either!(self, volume => volume.set_size(node, size), io(volume.file(node)?.set_len(size)))
    }

    fn rename(&self, node: u32, path: &[u16], replace: bool) -> Result<(), VolumeError> {
        either!(self, volume => volume.rename(node, path, replace), volume.rename(node, path, replace))
    }

    fn remove(&self, node: u32) -> Result<(), VolumeError> {
        either!(self, volume => volume.remove(node), {
            let (path, directory) = volume.with(node, |node| Ok((node.path.clone(), node.file.is_none())))?;
            io(if directory { fs::remove_dir(path) } else { fs::remove_file(path) })
        })
    }

    fn list(
        &self,
        directory: u32,
        cursor: u64,
        visit: &mut dyn FnMut(&Entry<'_>) -> bool,
    ) -> Result<(), VolumeError> {
        either!(self, volume => volume.list(directory, cursor, visit), volume.list(directory, cursor, visit))
    }

    fn flush(&self, node: u32) -> Result<(), VolumeError> {
        either!(self, volume => volume.flush(node), {
            match volume.file(node) {
                Ok(file) => io(file.sync_all()),
                Err(_) => Ok(()),
            }
        })
    }

    fn space(&self) -> Result<Space, VolumeError> {
        either!(self, volume => volume.space(), {
            // std has no statvfs: a round figure.
            let _ = volume;
            Ok(Space { total: 1 << 40, free: 1 << 39, cluster: 4096, sector: 512 })
        })
    }

    fn information(&self) -> VolumeInformation {
        either!(self, volume => volume.information(), {
            let metadata = fs::metadata(&volume.root);
            VolumeInformation {
                label: "directory".encode_utf16().collect(),
                serial: metadata.as_ref().map_or(0, |metadata| metadata.dev() as u32),
                file_system: "exFAT",
                maximum_component: 255,
                created: file_time(metadata.and_then(|metadata| metadata.created())),
                read_only: false,
            }
        })
    }
}
