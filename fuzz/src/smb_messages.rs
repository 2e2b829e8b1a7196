//! One kind of message after a conversation that brings the engine there: NEGOTIATE, SESSION_SETUP, create contexts, the
//! body of any command. The engine and what is asserted of it are `smb_server`'s; the fuzzer need not find its way.

use std::sync::LazyLock;

use crate::input::{Input, piece};
use crate::seeds_server::{self, Stage};
use crate::smb_server::{self, step};

/// Conversations up to a stage.
static NEGOTIATED: LazyLock<Vec<u8>> = LazyLock::new(|| seeds_server::opening(Stage::Negotiated));
static CONNECTED: LazyLock<Vec<u8>> = LazyLock::new(|| seeds_server::opening(Stage::Connected));
static OPENED: LazyLock<Vec<u8>> = LazyLock::new(|| seeds_server::opening(Stage::Opened));

fn add(conversation: &mut Vec<u8>, message: &[u8]) {
    conversation.push(step::FIX);
    conversation.extend(piece(message));
}

/// Input: a byte, of which 1 makes it an SMB1 message and the bits above the server's options, then NEGOTIATE's body. A
/// SESSION_SETUP follows.
pub fn negotiate(data: &[u8]) {
    let mut input = Input::new(data);
    let first = input.byte();
    let mut conversation = vec![first >> 1];
    if first & 1 != 0 {
        conversation.push(0);
        conversation.extend(piece(&[b"\xFFSMBr", input.rest()].concat()));
    } else {
        add(&mut conversation, &seeds_server::message(0, input.rest().to_vec()));
    }
    add(&mut conversation, &seeds_server::session_setup(b"A", 0, 0));
    smb_server::run(&conversation);
}

/// Input: bodies of SESSION_SETUP as pieces, each after a byte of steps' flags.
pub fn session_setup(data: &[u8]) {
    let mut input = Input::new(data);
    let mut conversation = NEGOTIATED.clone();
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        conversation.push(step::FIX | input.byte() & (step::SIGN | step::SEAL | step::SECOND));
        conversation.extend(piece(&seeds_server::message(1, input.piece().to_vec())));
    }
    smb_server::run(&conversation);
}

/// Input: oplock level, disposition, options (two bytes), then the list of contexts. Twice, for what is found open.
pub fn create_contexts(data: &[u8]) {
    let mut input = Input::new(data);
    let (oplock, disposition, options) = (input.byte(), input.byte() % 6, input.short());
    let create = seeds_server::create_with(oplock, disposition.into(), options.into(), input.rest());
    let mut conversation = CONNECTED.clone();
    add(&mut conversation, &create);
    add(&mut conversation, &create);
    smb_server::run(&conversation);
}

/// Input: messages as pieces, each after a byte for its command and one for its flags; bodies are the fuzzer's.
pub fn commands(data: &[u8]) {
    let mut input = Input::new(data);
    let mut conversation = OPENED.clone();
    for _ in 0..16 {
        if input.is_empty() {
            break;
        }
        let command = input.byte() % 20;
        let flags = input.byte();
        let mut message = seeds_server::message(command.into(), input.piece().to_vec());
        if let Some(related) = message.get_mut(16) {
            *related |= flags & 4;
        }
        conversation.push(step::FIX | flags & (step::SECOND | step::LATER));
        conversation.extend(piece(&message));
    }
    smb_server::run(&conversation);
}
