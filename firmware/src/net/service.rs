//! What the net task asks of the file server behind it; tests put an echo there.

use alloc::vec::Vec;

/// How messages are framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Direct TCP, port 445 (MS-SMB2 2.1): a zero byte and a 24-bit length.
    Tcp,
    /// NetBIOS session service, port 139 (RFC 1002 4.3): a session request first, 17-bit lengths.
    NetBios,
}

/// Who takes messages and gives replies. Connections are named by their slot.
pub trait Service: 'static {
    /// A message on its way out.
    type Reply: Reply;

    /// A client has connected. False: no room for it, the connection is reset.
    fn connect(&self, slot: usize, transport: Transport) -> bool;

    /// The client has gone, or is being dropped.
    fn disconnect(&self, slot: usize);

    /// The longest message the slot may send now; a longer one costs it the connection.
    fn maximum_message(&self, slot: usize) -> usize;

    /// Whether somebody has logged on: such a connection is not dropped for want of room or for its silence.
    fn is_authenticated(&self, slot: usize) -> bool;

    /// Sets memory aside for a message of `bytes` that the slot begins to send. False: none now; the message stays in the
    /// socket, and the slot is left alone until [`Mailbox::room`](super::Mailbox::room) is called or its own replies move on.
    fn admit(&self, slot: usize, bytes: usize) -> bool;

    /// A message that was admitted will not be submitted: its client is gone.
    fn withdraw(&self, bytes: usize);

    /// Hands a whole message over, and the memory that was set aside for it. When nobody can take it now, it comes back, and the slot is left alone until
    /// [`Mailbox::room`] is called.
    fn submit(&self, slot: usize, message: Vec<u8>) -> Result<(), Vec<u8>>;

    /// The next reply for the slot.
    fn next_reply(&self, slot: usize) -> Option<Self::Reply>;
}

/// A message on its way out, without its transport header.
pub trait Reply {
    /// Bytes in all.
    fn length(&self) -> usize;

    /// Calls `visit` with each piece in order.
    fn for_each(&self, visit: &mut dyn FnMut(&[u8]));
}

impl Reply for Vec<u8> {
    fn length(&self) -> usize {
        self.len()
    }

    fn for_each(&self, visit: &mut dyn FnMut(&[u8])) {
        visit(self);
    }
}
