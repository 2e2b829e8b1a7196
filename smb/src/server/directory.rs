//! QUERY_DIRECTORY (MS-SMB2 3.3.5.18, MS-FSA 2.1.5.6.3).

use alloc::vec::Vec;

use super::access::Operation;
use super::dispatch::{Handled, Outcome, Request};
use super::file::Open;
use super::names::{self, SEPARATOR};
use super::state::{OpenFile, State};
use super::{PayloadOf, Server};
use crate::arena::Id;
use crate::environment::{Environment, Metadata, Volume, VolumeError};
use crate::fscc::{DirectoryClass, DirectoryEntry, DirectoryWriter, FileTime, Pattern, short_name};
use crate::reader::Writer;
use crate::status::NtStatus;
use crate::wire::query_directory as wire;

/// How far a handle's listing has come.
#[derive(Clone)]
pub(crate) struct Search {
    pattern: Pattern,
    place: Place,
    /// Something was found since the start.
    found: bool,
}

/// Where a listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Dot,
    DotDot,
    /// The volume's cursor.
    Entries(u64),
    End,
}

/// Times of an open file that its volume does not know, or 0.
pub(crate) struct OpenTimes {
    file_id: u64,
    written: u64,
    changed: u64,
}

impl<V: Volume> State<V> {
    /// The files on a directory's volume that are open and show other times than the volume knows.
    fn times_of_open_files(&self, directory: Id<OpenFile<V::Node>>) -> Vec<OpenTimes> {
        let Some(volume) = self.files.get(directory).map(|file| file.volume) else { return Vec::new() };
        self.files
            .iter()
            .filter(|(_, file)| file.volume == volume && file.write_time | file.change_time != 0)
            .map(|(_, file)| OpenTimes {
                file_id: file.file_id,
                written: file.write_time,
                changed: file.change_time,
            })
            .collect()
    }
}

/// A node's metadata, and its time of change, with what the engine knows better.
fn with_times(times: &[OpenTimes], mut metadata: Metadata) -> (Metadata, FileTime) {
    let known = times.iter().find(|known| known.file_id == metadata.file_id);
    if let Some(known) = known.filter(|known| known.written != 0) {
        metadata.modified = FileTime(known.written);
    }
    let changed = known.filter(|known| known.changed != 0).map(|known| FileTime(known.changed));
    (metadata, changed.unwrap_or(metadata.modified))
}

/// `.` and `..`, before all others.
const DOT: [u16; 1] = [b'.' as u16];
const DOT_DOT: [u16; 2] = [b'.' as u16; 2];

impl<E: Environment> Server<E> {
    pub(super) fn query_directory(
        &self,
        request: &mut Request<'_>,
        writer: &mut Writer<'_>,
    ) -> Handled<PayloadOf<E>> {
        let parsed = wire::Request::parse(request.message)?;
        let class = DirectoryClass::from_wire(parsed.class);
        let open = self.open_file(request, parsed.file_id, Operation::List)?;
        if !open.directory {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let class = class.ok_or(NtStatus::INVALID_INFO_CLASS)?;
        if parsed.output_length > self.configuration.maximum_transfer {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        request.check_charge(parsed.output_length)?;
        let capacity = parsed.output_length as usize;
        if capacity < class.fixed_size() {
            return Err(NtStatus::INFO_LENGTH_MISMATCH);
        }
        let restart = parsed.flags & (wire::RESTART_SCANS | wire::REOPEN) != 0;
        let mut search = {
            let mut state = self.state.lock();
            let extra = state.extra_of(open.handle).ok_or(NtStatus::INSUFFICIENT_RESOURCES)?;
            match &extra.search {
                Some(search) if !restart => search.clone(),
                known => {
                    let pattern = match known {
                        Some(search) if parsed.pattern.is_empty() => search.pattern.clone(),
                        _ if parsed.pattern.is_empty() => Pattern::new(&[u16::from(b'*')])?,
                        _ => Pattern::new(&parsed.pattern)?,
                    };
                    Search { pattern, place: Place::Dot, found: false }
                }
            }
        };
        let single = parsed.flags & wire::RETURN_SINGLE_ENTRY != 0;
        // The length is not known yet.
        writer.reserve(wire::OUTPUT_START + capacity.min(0x1_0000));
        let head = writer.position();
        wire::emit(writer, 1);
        let start = writer.position();
        let mut entries = DirectoryWriter::new(class, writer.nested(), capacity);
        let first = !search.found;
        let times = self.state.lock().times_of_open_files(open.file);
        let overflow = list(&open, &times, &mut search, &mut entries, single)?;
        let empty = entries.is_empty();
        if empty && !overflow && first {
            // Even a search without a match has begun: the next query goes on from its end.
            self.keep(&open, search);
            return Err(NtStatus::NO_SUCH_FILE);
        }
        if empty {
            if !overflow {
                self.keep(&open, search);
            }
            return Err(if overflow { NtStatus::BUFFER_OVERFLOW } else { NtStatus::NO_MORE_FILES });
        }
        search.found = true;
        self.keep(&open, search);
        let length = (writer.position() - start) as u32;
        writer.patch_u32(head + wire::OUTPUT_START - 4, length);
        Ok(Outcome::Done(NtStatus::SUCCESS))
    }

    fn keep(&self, open: &Open<E::Volume>, search: Search) {
        if let Some(extra) = self.state.lock().extra_of(open.handle) {
            extra.search = Some(search);
        }
    }
}

/// Adds entries from where `search` stands until the space is full. True when an entry was left for lack of space.
fn list<V: Volume>(
    open: &Open<V>,
    times: &[OpenTimes],
    search: &mut Search,
    entries: &mut DirectoryWriter<'_>,
    single: bool,
) -> Result<bool, NtStatus> {
    if search.place == Place::Dot {
        if search.pattern.matches(&DOT) && !push(entries, &DOT, None, &with_times(times, open.metadata()?)) {
            return Ok(true);
        }
        search.place = Place::DotDot;
    }
    if search.place == Place::DotDot {
        if single && !entries.is_empty() {
            return Ok(false);
        }
        if search.pattern.matches(&DOT_DOT)
            && !push(entries, &DOT_DOT, None, &with_times(times, parent_metadata(open)?))
        {
            return Ok(true);
        }
        search.place = match search.pattern.literal() {
            // One name: found by itself, however large the directory.
            Some(name) if name != DOT && name != DOT_DOT => {
                let found = look_up(open, name)?;
                if let Some(Found { name, short, metadata }) = found
                    && !push(
                        entries,
                        &name,
                        Some(&short[..]).filter(|short| !short.is_empty()),
                        &with_times(times, metadata),
                    )
                {
                    return Ok(true);
                }
                Place::End
            }
            Some(_) => Place::End,
            None => Place::Entries(0),
        };
    }
    let Place::Entries(start) = search.place else { return Ok(false) };
    if single && !entries.is_empty() {
        return Ok(false);
    }
    let mut full = false;
    let mut cursor = start;
    let mut stopped = false;
    open.volume.list(open.node, start, &mut |entry| {
        let pattern = &search.pattern;
        let matches = pattern.matches(entry.name)
            || match entry.short_name {
                Some(short) => pattern.matches(short),
                None => {
                    pattern.has_tilde()
                        && short_name(entry.name).is_some_and(|short| pattern.matches(short.units()))
                }
            };
        if matches {
            let metadata = with_times(times, entry.metadata);
            if !push(entries, entry.name, entry.short_name, &metadata) {
                full = true;
                return false;
            }
            cursor = entry.cursor;
            if single {
                stopped = true;
                return false;
            }
        } else {
            cursor = entry.cursor;
        }
        true
    })?;
    search.place = if full || stopped { Place::Entries(cursor) } else { Place::End };
    Ok(full)
}

fn push(
    entries: &mut DirectoryWriter<'_>,
    name: &[u16],
    stored_short: Option<&[u16]>,
    (metadata, changed): &(Metadata, FileTime),
) -> bool {
    let wanted = entries.has_short_names() && stored_short.is_none();
    let made_short = if wanted { short_name(name) } else { None };
    let short = stored_short.or(made_short.as_ref().map(|short| short.units())).unwrap_or(&[]);
    entries.push(&DirectoryEntry {
        name,
        short_name: short,
        created: metadata.created,
        accessed: metadata.accessed,
        modified: metadata.modified,
        changed: *changed,
        attributes: metadata.attributes,
        size: metadata.size,
        allocated: metadata.allocated,
        file_id: metadata.file_id,
        index: 0,
    })
}

/// The metadata of the directory above; of the root it is its own without a number.
fn parent_metadata<V: Volume>(open: &Open<V>) -> Result<Metadata, NtStatus> {
    let mut path = Vec::new();
    open.volume.path(open.node, &mut path)?;
    let Some(parent) = names::parent(&path) else {
        return Ok(Metadata { file_id: 0, ..open.metadata()? });
    };
    let node = match open.volume.open(parent) {
        Ok(node) => node,
        // It was renamed in this moment.
        Err(_) => return Ok(Metadata { file_id: 0, created: FileTime::ZERO, ..open.metadata()? }),
    };
    let metadata = open.volume.metadata(node);
    let _ = open.volume.close(node);
    Ok(metadata?)
}

/// What [`look_up`] found.
struct Found {
    /// The name as stored.
    name: Vec<u16>,
    /// The 8.3 name stored beside it; empty when there is none.
    short: Vec<u16>,
    metadata: Metadata,
}

/// The entry `name` of the directory.
fn look_up<V: Volume>(open: &Open<V>, name: &[u16]) -> Result<Option<Found>, NtStatus> {
    let mut path = Vec::new();
    open.volume.path(open.node, &mut path)?;
    if !path.is_empty() {
        path.push(SEPARATOR);
    }
    path.extend_from_slice(name);
    names::resolve_made_names(&*open.volume, &mut path)?;
    let node = match open.volume.open(&path) {
        Ok(node) => node,
        Err(VolumeError::NotFound | VolumeError::PathNotFound | VolumeError::NameInvalid) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    path.clear();
    let mut short = Vec::new();
    let found = open.volume.metadata(node).and_then(|metadata| {
        open.volume.path(node, &mut path)?;
        open.volume.short_name(node, &mut short)?;
        Ok(metadata)
    });
    let _ = open.volume.close(node);
    Ok(Some(Found { name: names::last(&path).to_vec(), short, metadata: found? }))
}
