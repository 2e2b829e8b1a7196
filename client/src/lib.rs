//! A small SMB 2.1 client (MS-SMB2): logs on, signs, makes, writes, reads and lists. It knows one request at a time
//! and panics at nothing: everything that goes wrong is an NTSTATUS or a broken connection.
//!
//! [`Employee`] lets the workers of `storage`'s power cuts work through it.

#![forbid(unsafe_code)]

mod employee;
mod ntlm;
mod transport;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

pub use employee::Employee;
pub use transport::Transport;

/// What the server answered instead of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// An NTSTATUS.
    Status(u32),
    /// The connection ended.
    Disconnected,
    /// The answer made no sense, or its signature was wrong.
    Malformed,
}

type Result<T> = core::result::Result<T, ClientError>;

const NEGOTIATE: u16 = 0;
const SESSION_SETUP: u16 = 1;
const TREE_CONNECT: u16 = 3;
const CREATE: u16 = 5;
const CLOSE: u16 = 6;
const FLUSH: u16 = 7;
const READ: u16 = 8;
const WRITE: u16 = 9;
const QUERY_DIRECTORY: u16 = 14;
const SET_INFO: u16 = 17;

const HEADER: usize = 64;
const SIGNED: u32 = 8;
const STATUS_PENDING: u32 = 0x103;
const STATUS_MORE_PROCESSING_REQUIRED: u32 = 0xC000_0016;
const STATUS_NO_MORE_FILES: u32 = 0x8000_0006;

/// An open file or directory.
#[derive(Clone, Copy, Debug)]
pub struct Handle([u8; 16]);

/// A client with a connection.
pub struct SmbClient<T> {
    socket: T,
    message_id: u64,
    session: u64,
    tree: u32,
    signing_key: Option<[u8; 16]>,
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16> {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ClientError::Malformed)?;
    Ok(u16::from_le_bytes(*chunk))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32> {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or(ClientError::Malformed)?;
    Ok(u32::from_le_bytes(*chunk))
}

fn part(bytes: &[u8], offset: usize, length: usize) -> Result<&[u8]> {
    bytes.get(offset..).and_then(|rest| rest.get(..length)).ok_or(ClientError::Malformed)
}

impl<T: Transport> SmbClient<T> {
    /// Negotiates SMB 2.1 over `socket`.
    pub fn negotiate(socket: T) -> Result<Self> {
        let mut client = Self { socket, message_id: 0, session: 0, tree: 0, signing_key: None };
        let mut body = Vec::new();
        body.extend(36u16.to_le_bytes());
        body.extend(1u16.to_le_bytes());
        body.extend(1u16.to_le_bytes());
        body.extend([0; 2 + 4 + 16 + 8]);
        body.extend(0x0210u16.to_le_bytes());
        let answer = client.exchange(NEGOTIATE, &body)?;
        if u16_at(&answer, HEADER + 4)? != 0x0210 {
            return Err(ClientError::Malformed);
        }
        Ok(client)
    }

    /// Logs on as `user`. From here on everything is signed.
    pub fn log_on(&mut self, user: &str, password: &str) -> Result<()> {
        let (status, answer) = self.setup(&ntlm::negotiate())?;
        if status != STATUS_MORE_PROCESSING_REQUIRED {
            return Err(ClientError::Status(status));
        }
        let (token, session_key) =
            ntlm::authenticate(&answer, user, password, *b"simulate").ok_or(ClientError::Malformed)?;
        match self.setup(&token)? {
            (0, _) => {
                self.signing_key = Some(session_key);
                Ok(())
            }
            (status, _) => Err(ClientError::Status(status)),
        }
    }

    fn setup(&mut self, token: &[u8]) -> Result<(u32, Vec<u8>)> {
        let mut body = Vec::new();
        body.extend(25u16.to_le_bytes());
        body.extend([0, 1]);
        body.extend([0; 4 + 4]);
        body.extend((HEADER as u16 + 24).to_le_bytes());
        body.extend((token.len() as u16).to_le_bytes());
        body.extend([0; 8]);
        body.extend_from_slice(token);
        let (status, answer) = self.exchange_any(SESSION_SETUP, &body)?;
        self.session = u64::from_le_bytes(
            *answer.get(40..).and_then(<[u8]>::first_chunk).ok_or(ClientError::Malformed)?,
        );
        let token = if status == 0 || status == STATUS_MORE_PROCESSING_REQUIRED {
            part(&answer, u16_at(&answer, HEADER + 4)?.into(), u16_at(&answer, HEADER + 6)?.into())?.to_vec()
        } else {
            Vec::new()
        };
        Ok((status, token))
    }

    /// Connects to a share, which later calls are about.
    pub fn connect_tree(&mut self, share: &str) -> Result<()> {
        let path = utf16(&format!("\\\\sim\\{share}"));
        let mut body = Vec::new();
        body.extend(9u16.to_le_bytes());
        body.extend([0; 2]);
        body.extend((HEADER as u16 + 8).to_le_bytes());
        body.extend((path.len() as u16).to_le_bytes());
        body.extend(path);
        let answer = self.exchange(TREE_CONNECT, &body)?;
        self.tree = u32_at(&answer, 36)?;
        Ok(())
    }

    fn create(&mut self, path: &str, access: u32, disposition: u32, options: u32) -> Result<Handle> {
        Ok(self.create_sized(path, access, disposition, options)?.0)
    }

    /// The handle, and the file's size.
    fn create_sized(
        &mut self,
        path: &str,
        access: u32,
        disposition: u32,
        options: u32,
    ) -> Result<(Handle, u64)> {
        let name = utf16(path);
        let mut body = Vec::new();
        body.extend(57u16.to_le_bytes());
        body.extend([0, 0]);
        body.extend(2u32.to_le_bytes());
        body.extend([0; 16]);
        body.extend(access.to_le_bytes());
        body.extend(0u32.to_le_bytes());
        body.extend(7u32.to_le_bytes());
        body.extend(disposition.to_le_bytes());
        body.extend(options.to_le_bytes());
        body.extend((HEADER as u16 + 56).to_le_bytes());
        body.extend((name.len() as u16).to_le_bytes());
        body.extend([0; 8]);
        body.extend(name);
        body.push(0);
        let answer = self.exchange(CREATE, &body)?;
        let size = answer.get(HEADER + 48..).and_then(<[u8]>::first_chunk).ok_or(ClientError::Malformed)?;
        let id = answer.get(HEADER + 64..).and_then(<[u8]>::first_chunk).ok_or(ClientError::Malformed)?;
        Ok((Handle(*id), u64::from_le_bytes(*size)))
    }

    /// Makes a directory.
    pub fn make_directory(&mut self, path: &str) -> Result<()> {
        let handle = self.create(path, 0x0010_0080, 2, 1)?;
        self.close(handle)
    }

    /// Makes a file, which must not exist, and opens it for reading and writing.
    pub fn create_file(&mut self, path: &str) -> Result<Handle> {
        self.create(path, 0x0013_019F, 2, 0x40)
    }

    /// Opens a file for reading and writing.
    pub fn open_to_change(&mut self, path: &str) -> Result<Handle> {
        self.create(path, 0x0013_019F, 1, 0x40)
    }

    /// Opens a file for reading, and says its size in bytes.
    pub fn open_sized(&mut self, path: &str) -> Result<(Handle, u64)> {
        self.create_sized(path, 0x0012_0089, 1, 0x40)
    }

    /// Opens a file for reading.
    pub fn open_file(&mut self, path: &str) -> Result<Handle> {
        self.create(path, 0x0012_0089, 1, 0x40)
    }

    /// Removes a file or an empty directory.
    pub fn remove(&mut self, path: &str) -> Result<()> {
        // DELETE access, delete on close.
        let handle = self.create(path, 0x0001_0000, 1, 0x1000)?;
        self.close(handle)
    }

    /// Renames a file or directory; nothing may be there under the new name.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.rename_over(from, to, false)
    }

    /// Renames a file or directory; with `replace` in the place of a file that is there.
    pub fn rename_over(&mut self, from: &str, to: &str, replace: bool) -> Result<()> {
        let handle = self.create(from, 0x0001_0080, 1, 0)?;
        let name = utf16(to);
        let mut information = vec![0; 16];
        information[0] = u8::from(replace);
        information.extend((name.len() as u32).to_le_bytes());
        information.extend(name);
        // FileRenameInformation.
        let result = self.set_information(handle, 10, &information);
        self.close(handle).and(result)
    }

    /// Sets a file's size in bytes.
    pub fn set_end_of_file(&mut self, handle: Handle, size: u64) -> Result<()> {
        // FileEndOfFileInformation.
        self.set_information(handle, 20, &size.to_le_bytes())
    }

    fn set_information(&mut self, handle: Handle, class: u8, information: &[u8]) -> Result<()> {
        let mut body = Vec::new();
        body.extend(33u16.to_le_bytes());
        body.extend([1, class]);
        body.extend((information.len() as u32).to_le_bytes());
        body.extend((HEADER as u16 + 32).to_le_bytes());
        body.extend([0; 6]);
        body.extend(handle.0);
        body.extend(information);
        self.exchange(SET_INFO, &body).map(|_| ())
    }

    /// Closes a handle.
    pub fn close(&mut self, handle: Handle) -> Result<()> {
        let mut body = Vec::new();
        body.extend(24u16.to_le_bytes());
        body.extend([0; 6]);
        body.extend(handle.0);
        self.exchange(CLOSE, &body).map(|_| ())
    }

    /// Has everything written that was written to the handle.
    pub fn flush(&mut self, handle: Handle) -> Result<()> {
        let mut body = Vec::new();
        body.extend(24u16.to_le_bytes());
        body.extend([0; 6]);
        body.extend(handle.0);
        self.exchange(FLUSH, &body).map(|_| ())
    }

    /// Writes up to 64 KiB.
    pub fn write(&mut self, handle: Handle, offset: u64, data: &[u8]) -> Result<()> {
        self.write_flagged(handle, offset, data, false)
    }

    /// Writes up to 64 KiB; `through`: they are safe when this returns (SMB2_WRITEFLAG_WRITE_THROUGH).
    pub fn write_flagged(&mut self, handle: Handle, offset: u64, data: &[u8], through: bool) -> Result<()> {
        let mut body = Vec::new();
        body.extend(49u16.to_le_bytes());
        body.extend((HEADER as u16 + 48).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(offset.to_le_bytes());
        body.extend(handle.0);
        body.extend([0; 12]);
        body.extend(u32::from(through).to_le_bytes());
        body.extend_from_slice(data);
        let answer = self.exchange(WRITE, &body)?;
        if u32_at(&answer, HEADER + 4)? as usize == data.len() { Ok(()) } else { Err(ClientError::Malformed) }
    }

    /// Reads up to 64 KiB.
    pub fn read(&mut self, handle: Handle, offset: u64, length: u32) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        body.extend(49u16.to_le_bytes());
        body.extend([0x50, 0]);
        body.extend(length.to_le_bytes());
        body.extend(offset.to_le_bytes());
        body.extend(handle.0);
        body.extend([0; 17]);
        let answer = self.exchange(READ, &body)?;
        let start = answer.get(HEADER + 2).copied().ok_or(ClientError::Malformed)?;
        Ok(part(&answer, start.into(), u32_at(&answer, HEADER + 4)? as usize)?.to_vec())
    }

    /// The names in a directory, without `.` and `..`.
    pub fn list(&mut self, path: &str) -> Result<Vec<String>> {
        Ok(self.list_kinds(path)?.into_iter().map(|(name, _)| name).collect())
    }

    /// As [`list`](Self::list), and whether each is a directory.
    pub fn list_kinds(&mut self, path: &str) -> Result<Vec<(String, bool)>> {
        let handle = self.create(path, 0x0010_0081, 1, 1)?;
        let mut names = Vec::new();
        let result = loop {
            let pattern = utf16("*");
            let mut body = Vec::new();
            body.extend(33u16.to_le_bytes());
            // FileDirectoryInformation.
            body.extend([1, 0]);
            body.extend([0; 4]);
            body.extend(handle.0);
            body.extend((HEADER as u16 + 32).to_le_bytes());
            body.extend((pattern.len() as u16).to_le_bytes());
            body.extend(0x1_0000u32.to_le_bytes());
            body.extend(pattern);
            let answer = match self.exchange(QUERY_DIRECTORY, &body) {
                Ok(answer) => answer,
                Err(ClientError::Status(STATUS_NO_MORE_FILES)) => break Ok(()),
                Err(error) => break Err(error),
            };
            let offset = u16_at(&answer, HEADER + 2)?;
            let mut entries = part(&answer, offset.into(), u32_at(&answer, HEADER + 4)? as usize)?;
            loop {
                let next = u32_at(entries, 0)? as usize;
                let is_directory = u32_at(entries, 56)? & 0x10 != 0;
                let name = part(entries, 64, u32_at(entries, 60)? as usize)?;
                let (units, _) = name.as_chunks::<2>();
                let name = String::from_utf16_lossy(
                    &units.iter().map(|unit| u16::from_le_bytes(*unit)).collect::<Vec<_>>(),
                );
                if name != "." && name != ".." {
                    names.push((name, is_directory));
                }
                if next == 0 {
                    break;
                }
                entries = entries.get(next..).ok_or(ClientError::Malformed)?;
            }
        };
        self.close(handle).and(result)?;
        Ok(names)
    }

    /// Breaks the connection off in the middle of whatever it does.
    pub fn abort(&self) {
        self.socket.abort();
    }

    /// Sends bytes as they are.
    pub fn send_raw(&self, bytes: &[u8]) -> bool {
        self.socket.send(bytes)
    }

    fn exchange(&mut self, command: u16, body: &[u8]) -> Result<Vec<u8>> {
        match self.exchange_any(command, body)? {
            (0, answer) => Ok(answer),
            (status, _) => Err(ClientError::Status(status)),
        }
    }

    /// Sends a request and waits for its final answer.
    fn exchange_any(&mut self, command: u16, body: &[u8]) -> Result<(u32, Vec<u8>)> {
        let message_id = self.message_id;
        self.message_id += 1;
        let mut message = b"\xFESMB".to_vec();
        message.extend(64u16.to_le_bytes());
        message.extend(1u16.to_le_bytes());
        message.extend([0; 4]);
        message.extend(command.to_le_bytes());
        message.extend(64u16.to_le_bytes());
        message.extend(if self.signing_key.is_some() { SIGNED } else { 0 }.to_le_bytes());
        message.extend([0; 4]);
        message.extend(message_id.to_le_bytes());
        message.extend([0; 4]);
        message.extend(self.tree.to_le_bytes());
        message.extend(self.session.to_le_bytes());
        message.extend([0; 16]);
        message.extend_from_slice(body);
        if let Some(key) = &self.signing_key {
            let signature = sign(key, &message);
            message[48..64].copy_from_slice(&signature);
        }
        let framed = [&(message.len() as u32).to_be_bytes()[..], &message].concat();
        if !self.socket.send(&framed) {
            return Err(ClientError::Disconnected);
        }
        loop {
            let header = self.socket.receive(4).ok_or(ClientError::Disconnected)?;
            let length = u32::from_be_bytes(*header.first_chunk().ok_or(ClientError::Malformed)?) as usize;
            let mut answer = self.socket.receive(length).ok_or(ClientError::Disconnected)?;
            let status = u32_at(&answer, 8)?;
            if answer.len() < HEADER || answer.get(24..32) != Some(&message_id.to_le_bytes()[..]) {
                return Err(ClientError::Malformed);
            }
            if status == STATUS_PENDING {
                continue;
            }
            if let Some(key) = &self.signing_key {
                let signature: [u8; 16] =
                    *answer.get(48..).and_then(<[u8]>::first_chunk).ok_or(ClientError::Malformed)?;
                answer[48..64].fill(0);
                if signature != sign(key, &answer) {
                    return Err(ClientError::Malformed);
                }
            }
            return Ok((status, answer));
        }
    }
}

/// The signature of a message whose signature field is 0 (MS-SMB2 3.1.4.1).
fn sign(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(message);
    let full = mac.finalize().into_bytes();
    *full.first_chunk().unwrap_or(&[0; 16])
}
