//! What a disk needs of the channel: a command with its data, and somebody who runs it.

use super::super::Outcome;

/// A command's data, as safe slices.
#[derive(Debug)]
pub enum Data<'a, 'b> {
    /// None.
    None,
    /// The target sends, in this order.
    FromTarget(&'a mut [&'b mut [u8]]),
    /// The target receives, in this order.
    ToTarget(&'a [&'b [u8]]),
}

impl<'b> Data<'_, 'b> {
    /// The same once more, for another attempt.
    pub(super) fn again(&mut self) -> Data<'_, 'b> {
        match self {
            Data::None => Data::None,
            Data::FromTarget(pieces) => Data::FromTarget(pieces),
            Data::ToTarget(pieces) => Data::ToTarget(pieces),
        }
    }

    pub(super) fn length(&self) -> u64 {
        match self {
            Data::None => 0,
            Data::FromTarget(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
            Data::ToTarget(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        }
    }
}

/// One command for a [`Transport`].
#[derive(Debug)]
pub struct Request<'a, 'b> {
    /// The target's identity.
    pub target: u8,
    /// The command descriptor block.
    pub descriptor: &'a [u8],
    /// Its data: at most 256 pieces and 1 MiB.
    pub data: Data<'a, 'b>,
    /// Whether to use a queue tag.
    pub tagged: bool,
    /// Whether it has to be alone on the channel.
    pub exclusive: bool,
    /// How long it may take, in milliseconds.
    pub timeout_milliseconds: u32,
}

/// A channel on which a thread can wait. The firmware makes it of an [`Adapter`](super::super::Adapter) and its scheduler.
///
/// An implementation keeps the data's memory borrowed until the command ended, whatever happens.
pub trait Transport {
    /// Runs a command to its end; several threads may do so at once. `meanwhile` is called at most once, while the
    /// command is in flight: it may begin others.
    fn execute(&self, request: Request<'_, '_>, meanwhile: &mut dyn FnMut()) -> Outcome;

    /// Lets the calling thread sleep.
    fn pause(&self, milliseconds: u32);
}

/// What the caller wants done while its command is in flight; taken by the first attempt.
pub(super) type Meanwhile<'a> = Option<&'a mut dyn FnMut()>;

pub(super) fn run_now(meanwhile: &mut Meanwhile<'_>) {
    if let Some(meanwhile) = meanwhile.take() {
        meanwhile();
    }
}
