//! Answers on their way out: how elements become a message, and how it is signed or encrypted.

use alloc::vec::Vec;

use crate::crypto::{CipherKey, SigningKey, TRANSFORM_HEADER_SIZE};
use crate::environment::Payload;
use crate::reader::Writer;
use crate::wire::header::{Flags, HEADER_LENGTH, Header};

/// One message for the client, without the transport's four length bytes.
///
/// The bytes on the wire are those of [`Reply::head`], then those of [`Reply::payload`].
#[derive(Debug)]
pub struct Reply<P> {
    head: Vec<u8>,
    payload: Option<P>,
}

impl<P: Payload> Reply<P> {
    pub(crate) fn new(head: Vec<u8>, payload: Option<P>) -> Reply<P> {
        Reply { head, payload }
    }

    /// Bytes on the wire, the transport's header not counted.
    pub fn wire_length(&self) -> usize {
        self.head.len() + self.payload.as_ref().map_or(0, Payload::len)
    }

    /// The four bytes that go before the message on TCP and in a NetBIOS session (MS-SMB2 2.1).
    pub fn transport_header(&self) -> [u8; 4] {
        let [_, high, middle, low] = (self.wire_length() as u32).to_be_bytes();
        [0, high, middle, low]
    }

    /// The first part of the message.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The rest: data of a READ that was not copied.
    pub fn payload(&self) -> Option<&P> {
        self.payload.as_ref()
    }

    /// Calls `visit` with each piece of the message in order.
    pub fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        visit(&self.head);
        if let Some(payload) = &self.payload {
            payload.for_each(visit);
        }
    }
}

/// How a message is protected.
#[derive(Clone, Debug, Default)]
pub(crate) struct Protection {
    /// Encrypts the whole message: key, nonce, session id.
    pub seal: Option<(CipherKey, u64, u64)>,
}

/// Responses that are put together into one message.
pub(crate) struct Draft<P> {
    /// Finished elements, each with the key that is to sign it once its padding and link are in place.
    ended: Vec<(Vec<u8>, Option<SigningKey>)>,
    /// The element that is being made.
    current: Vec<u8>,
    /// Data behind the last element, ended or current.
    payload: Option<P>,
    /// Bytes of the elements that ended.
    length: usize,
}

impl<P: Payload> Draft<P> {
    pub fn new() -> Draft<P> {
        Draft { ended: Vec::new(), current: Vec::new(), payload: None, length: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Bytes of the finished elements.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Makes room for the header of the next element; the body is to be appended to [`Draft::out`].
    pub fn begin(&mut self) {
        // A payload in the middle of a compound is copied: this is rare.
        if let (Some(payload), Some((element, _))) = (self.payload.take(), self.ended.last_mut()) {
            element.reserve(payload.len());
            payload.for_each(&mut |piece| element.extend_from_slice(piece));
        }
        self.current = Vec::with_capacity(256);
        self.current.resize(HEADER_LENGTH, 0);
    }

    /// Where the body of the current element is appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.current
    }

    /// Throws away what was appended of the body.
    pub fn clear_body(&mut self) {
        self.current.truncate(HEADER_LENGTH);
        self.payload = None;
    }

    /// The element's data.
    pub fn set_payload(&mut self, payload: P) {
        self.payload = Some(payload);
    }

    /// Fills in the current element's header; with a key, it will be signed.
    pub fn end(&mut self, mut header: Header, sign: Option<SigningKey>) {
        if sign.is_some() {
            header.flags |= Flags::SIGNED;
        }
        header.flags |= Flags::RESPONSE;
        let mut bytes = Vec::with_capacity(HEADER_LENGTH);
        header.emit(&mut Writer::new(&mut bytes));
        if let Some(field) = self.current.get_mut(..HEADER_LENGTH) {
            field.copy_from_slice(&bytes);
        }
        self.length += self.current.len() + self.payload.as_ref().map_or(0, Payload::len);
        self.ended.push((core::mem::take(&mut self.current), sign));
    }

    /// Pads, links and signs the elements, and puts them together.
    fn join(&mut self) -> Vec<u8> {
        let count = self.ended.len();
        let payload = self.payload.as_ref().map(|payload| payload as &dyn Payload);
        let mut whole = Vec::new();
        for (index, (mut element, key)) in core::mem::take(&mut self.ended).into_iter().enumerate() {
            let last = index + 1 == count;
            if !last {
                element.resize(element.len().next_multiple_of(8), 0);
                let next = element.len() as u32;
                Writer::with_origin(&mut element, 0).patch_u32(20, next);
            }
            if let Some(key) = key {
                key.sign(&mut element, payload.filter(|_| last));
            }
            if whole.is_empty() {
                whole = element;
            } else {
                whole.extend_from_slice(&element);
            }
        }
        whole
    }

    /// The finished message.
    pub fn finish(mut self, protection: Protection) -> Reply<P> {
        let Some((key, nonce, session)) = protection.seal else {
            let head = self.join();
            return Reply::new(head, self.payload);
        };
        let inside = self.join();
        let length = inside.len() + self.payload.as_ref().map_or(0, Payload::len);
        let mut message = Vec::with_capacity(TRANSFORM_HEADER_SIZE + length);
        message.resize(TRANSFORM_HEADER_SIZE, 0);
        message.extend_from_slice(&inside);
        drop(inside);
        if let Some(payload) = self.payload.take() {
            payload.for_each(&mut |piece| message.extend_from_slice(piece));
        }
        let sealed =
            message.get_mut(TRANSFORM_HEADER_SIZE..).and_then(|inside| key.seal(nonce, session, inside).ok());
        match (sealed, message.get_mut(..TRANSFORM_HEADER_SIZE)) {
            (Some(header), Some(field)) => {
                let mut bytes = Vec::with_capacity(TRANSFORM_HEADER_SIZE);
                header.emit(&mut bytes);
                field.copy_from_slice(&bytes);
            }
            // Nothing goes out in the clear that should not: an empty message at worst.
            _ => message.clear(),
        }
        Reply::new(message, None)
    }
}
