//! Seeds for the whole engine: one conversation for each thing it does, and one for each known bug class.

use crate::input::{Input, piece};
use crate::smb_server::{FILE_PLACEHOLDER, PLACEHOLDER, option, step};

/// A name and a conversation.
pub type Conversation = (String, Vec<u8>);

/// Numbers of commands.
mod command {
    pub const NEGOTIATE: u16 = 0;
    pub const SESSION_SETUP: u16 = 1;
    pub const LOGOFF: u16 = 2;
    pub const TREE_CONNECT: u16 = 3;
    pub const TREE_DISCONNECT: u16 = 4;
    pub const CREATE: u16 = 5;
    pub const CLOSE: u16 = 6;
    pub const FLUSH: u16 = 7;
    pub const READ: u16 = 8;
    pub const WRITE: u16 = 9;
    pub const LOCK: u16 = 10;
    pub const IOCTL: u16 = 11;
    pub const CANCEL: u16 = 12;
    pub const ECHO: u16 = 13;
    pub const QUERY_DIRECTORY: u16 = 14;
    pub const CHANGE_NOTIFY: u16 = 15;
    pub const QUERY_INFO: u16 = 16;
    pub const SET_INFO: u16 = 17;
    pub const OPLOCK_BREAK: u16 = 18;
}

const FILE: [u8; 16] = [FILE_PLACEHOLDER; 16];

/// Numbers and bytes one after the other.
macro_rules! pack {
    ($($part:expr),* $(,)?) => {{
        let mut out: Vec<u8> = Vec::new();
        $(out.extend_from_slice(($part).as_ref());)*
        out
    }};
}

fn short(value: u16) -> [u8; 2] {
    value.to_le_bytes()
}

fn long(value: u32) -> [u8; 4] {
    value.to_le_bytes()
}

fn wide(value: u64) -> [u8; 8] {
    value.to_le_bytes()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// A message of command `number` with placeholders for what the target fills in.
pub fn message(number: u16, body: Vec<u8>) -> Vec<u8> {
    pack![
        b"\xFESMB",
        short(64),
        short(1),
        long(0),
        short(number),
        short(16),
        long(0),
        long(0),
        wide(0),
        long(0xFEFF),
        [PLACEHOLDER; 4],
        [PLACEHOLDER; 8],
        [0; 16],
        body,
    ]
}

fn negotiate(dialects: &[u16], contexts: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut tail = Vec::new();
    dialects.iter().for_each(|dialect| tail.extend(short(*dialect)));
    // The list starts behind header and fixed part (100 bytes), each context on a multiple of 8.
    let pad = |tail: &mut Vec<u8>| tail.resize((100 + tail.len()).next_multiple_of(8) - 100, 0);
    let mut offset = 0;
    for (kind, data) in contexts {
        pad(&mut tail);
        if offset == 0 {
            offset = 100 + tail.len() as u32;
        }
        tail.extend(pack![short(*kind), short(data.len() as u16), long(0), data]);
    }
    let count = contexts.len() as u16;
    let body = pack![
        short(36),
        short(dialects.len() as u16),
        short(1),
        short(0),
        long(0x7F),
        [3; 16],
        long(offset),
        short(count),
        short(0),
        tail,
    ];
    let mut message = message(command::NEGOTIATE, body);
    message[36..48].fill(0);
    message
}

fn contexts(cipher: u16, signing: u16) -> Vec<(u16, Vec<u8>)> {
    vec![
        (1, pack![short(1), short(4), short(1), [9; 4]]),
        (2, pack![short(1), short(cipher)]),
        (8, pack![short(1), short(signing)]),
    ]
}

/// SESSION_SETUP with a token.
pub fn session_setup(token: &[u8], flags: u8, previous: u64) -> Vec<u8> {
    let length = token.len() as u16;
    let body =
        pack![short(25), [flags, 1], long(1), long(0), short(88), short(length), wide(previous), token];
    message(command::SESSION_SETUP, body)
}

fn tree_connect(path: &str) -> Vec<u8> {
    let path = utf16(path);
    message(command::TREE_CONNECT, pack![short(9), short(0), short(72), short(path.len() as u16), path])
}

/// Of what a CREATE asks.
#[derive(Clone, Copy)]
struct Create<'a> {
    name: &'a str,
    access: u32,
    share: u32,
    disposition: u32,
    options: u32,
    oplock: u8,
    contexts: &'a [u8],
}

const OPEN: Create<'static> = Create {
    name: "file",
    access: 0x001F_01FF,
    share: 7,
    disposition: 3,
    options: 0,
    oplock: 0,
    contexts: &[],
};

fn create(create: Create<'_>) -> Vec<u8> {
    let mut tail = utf16(create.name);
    let name_length = tail.len() as u16;
    let mut offset = 0;
    if !create.contexts.is_empty() {
        tail.resize(tail.len().next_multiple_of(8), 0);
        offset = 120 + tail.len() as u32;
        tail.extend(create.contexts);
    }
    let body = pack![
        short(57),
        [0, create.oplock],
        long(2),
        [0; 16],
        long(create.access),
        long(0x80),
        long(create.share),
        long(create.disposition),
        long(create.options),
        short(120),
        short(name_length),
        long(offset),
        long(create.contexts.len() as u32),
        tail,
        [0],
    ];
    message(command::CREATE, body)
}

/// One create context.
fn context(tag: &[u8], data: &[u8], next: u32) -> Vec<u8> {
    let mut name = tag.to_vec();
    name.resize(8, 0);
    let mut out = pack![
        long(next),
        short(16),
        short(tag.len() as u16),
        short(0),
        short(if data.is_empty() { 0 } else { 24 }),
        long(data.len() as u32),
        name,
        data,
    ];
    out.resize(out.len().next_multiple_of(8), 0);
    out
}

fn close() -> Vec<u8> {
    message(command::CLOSE, pack![short(24), short(1), long(0), FILE])
}

fn read(length: u32, offset: u64) -> Vec<u8> {
    let body = pack![
        short(49),
        [0x50, 0],
        long(length),
        wide(offset),
        FILE,
        long(0),
        long(0),
        long(0),
        long(0),
        [0]
    ];
    message(command::READ, body)
}

fn write(offset: u64, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let body = pack![
        short(49),
        short(112),
        long(length),
        wide(offset),
        FILE,
        long(0),
        long(0),
        long(0),
        long(0),
        data
    ];
    message(command::WRITE, body)
}

fn lock(ranges: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut body = pack![short(48), short(ranges.len() as u16), long(0), FILE];
    for (offset, length, flags) in ranges {
        body.extend(pack![wide(*offset), wide(*length), long(*flags), long(0)]);
    }
    message(command::LOCK, body)
}

fn ioctl(code: u32, file: [u8; 16], input: &[u8], output: u32) -> Vec<u8> {
    let body = pack![
        short(57),
        short(0),
        long(code),
        file,
        long(120),
        long(input.len() as u32),
        long(0),
        long(0),
        long(0),
        long(output),
        long(1),
        long(0),
        input,
        [0],
    ];
    message(command::IOCTL, body)
}

fn query_directory(class: u8, flags: u8, pattern: &str, output: u32) -> Vec<u8> {
    let pattern = utf16(pattern);
    let length = pattern.len() as u16;
    let body =
        pack![short(33), [class, flags], long(0), FILE, short(96), short(length), long(output), pattern, [0]];
    message(command::QUERY_DIRECTORY, body)
}

fn query_info(kind: u8, class: u8, output: u32, input: &[u8]) -> Vec<u8> {
    let body = pack![
        short(41),
        [kind, class],
        long(output),
        short(104),
        short(0),
        long(input.len() as u32),
        long(7),
        long(0),
        FILE,
        input,
        [0],
    ];
    message(command::QUERY_INFO, body)
}

fn set_info(kind: u8, class: u8, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    let body = pack![short(33), [kind, class], long(length), short(96), short(0), long(0), FILE, data];
    message(command::SET_INFO, body)
}

fn rename(name: &str, replace: u8) -> Vec<u8> {
    let name = utf16(name);
    pack![[replace, 0, 0, 0, 0, 0, 0, 0], wide(0), long(name.len() as u32), name]
}

fn simple(number: u16) -> Vec<u8> {
    message(number, pack![short(4), short(0)])
}

fn notify(filter: u32) -> Vec<u8> {
    message(command::CHANGE_NOTIFY, pack![short(32), short(1), long(4096), FILE, long(filter), long(0)])
}

/// Elements as one compound; `related` ones take over session, tree and file of those before.
fn compound(elements: &[Vec<u8>], related: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, element) in elements.iter().enumerate() {
        let mut element = element.clone();
        if related && index > 0 {
            element[16] |= 4;
            element[36..48].fill(0xFF);
        }
        if index + 1 < elements.len() {
            element.resize(element.len().next_multiple_of(8), 0);
            let next = long(element.len() as u32);
            element[20..24].copy_from_slice(&next);
        }
        out.extend(element);
    }
    out
}

/// A conversation in the making.
struct Talk {
    bytes: Vec<u8>,
    flags: u8,
}

impl Talk {
    /// Starts with a negotiate, a log-on and a tree.
    fn new(options: u8, dialect: u16, cipher: u16, signing: u16, flags: u8) -> Talk {
        let mut talk = Talk { bytes: vec![options], flags: step::FIX };
        let contexts = if dialect == 0x0311 { contexts(cipher, signing) } else { Vec::new() };
        let talk = talk.say(negotiate(&[0x0202, dialect], &contexts)).say(session_setup(b"A", 0, 0));
        talk.flags = step::FIX | flags;
        let bytes = talk.say(tree_connect("\\\\NAS\\data")).bytes.clone();
        Talk { bytes, flags: step::FIX | flags }
    }

    /// SMB 3.0.2, unsigned.
    fn plain() -> Talk {
        Talk::new(0, 0x0302, 0, 0, 0)
    }

    fn say(&mut self, message: Vec<u8>) -> &mut Talk {
        self.step(0, message)
    }

    /// With further flags.
    fn step(&mut self, flags: u8, message: Vec<u8>) -> &mut Talk {
        self.bytes.push(self.flags | flags);
        self.bytes.extend(piece(&message));
        self
    }

    /// A file with some bytes, open.
    fn file(&mut self) -> &mut Talk {
        self.say(create(OPEN)).say(write(0, b"some bytes in the file"))
    }
}

/// How far a conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub enum Stage {
    /// 3.1.1 is negotiated.
    Negotiated,
    /// Logged on (in 3.0.2, unsigned), with a tree.
    Connected,
    /// With a file, open.
    Opened,
}

/// A conversation up to `stage`.
pub fn opening(stage: Stage) -> Vec<u8> {
    if stage == Stage::Negotiated {
        let mut talk = Talk { bytes: vec![0], flags: step::FIX };
        return talk.say(negotiate(&[0x0311], &contexts(2, 2))).bytes.clone();
    }
    let mut talk = Talk::plain();
    if stage == Stage::Opened {
        talk.file();
    }
    talk.bytes
}

/// A CREATE of "file" with these contexts, which begin where they should.
pub fn create_with(oplock: u8, disposition: u32, options: u32, contexts: &[u8]) -> Vec<u8> {
    create(Create { oplock, disposition, options, contexts, ..OPEN })
}

/// Bodies of the messages in a conversation: for targets whose input has bodies only.
pub fn bodies(conversation: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut input = Input::new(conversation);
    input.byte();
    let mut out = Vec::new();
    while !input.is_empty() {
        input.byte();
        let message = input.piece();
        if let (Some(command), Some(body)) = (message.get(12), message.get(64..)) {
            out.push(((*command).into(), body.to_vec()));
        }
    }
    out
}

const DIRECTORY: Create<'static> = Create { name: "folder", options: 1, ..OPEN };

/// All conversations.
pub fn all() -> Vec<Conversation> {
    let mut out = Vec::new();
    let mut add = |name: &str, talk: &mut Talk| out.push((name.to_string(), talk.bytes.clone()));
    right(&mut add);
    wrong(&mut add);
    out
}

/// What clients do.
fn right(add: &mut dyn FnMut(&str, &mut Talk)) {
    for dialect in [0x0210, 0x0300, 0x0302, 0x0311] {
        for signing in if dialect == 0x0311 { 0..3 } else { 0..1 } {
            let options = option::SIGNING_REQUIRED;
            let name = format!("signed-{dialect:04x}-{signing}");
            add(
                &name,
                Talk::new(options, dialect, 0, signing, step::SIGN).file().say(read(100, 5)).say(close()),
            );
        }
    }
    for cipher in 1..=4 {
        let mut talk = Talk::new(option::ENCRYPTION_REQUIRED, 0x0311, cipher, 0, step::SEAL);
        add(&format!("sealed-0311-{cipher}"), talk.file().say(read(100, 5)).say(close()));
    }
    add(
        "sealed-0300",
        Talk::new(option::ENCRYPTION_REQUIRED, 0x0300, 1, 0, step::SEAL).file().say(read(9, 0)),
    );
    let mut smb1 = b"\xFFSMBr".to_vec();
    smb1.resize(32, 0);
    smb1.extend(pack![[0], short(24), b"\x02NT LM 0.12\0\x02SMB 2.???\0"]);
    let mut talk = Talk { bytes: vec![0], flags: 0 };
    add("smb1-negotiate", talk.say(smb1).step(step::FIX, negotiate(&[0x0202, 0x0302], &[])));
    let mut legs = Talk { bytes: vec![0], flags: step::FIX };
    legs.say(negotiate(&[0x0311], &contexts(2, 2))).say(session_setup(b"C", 0, 0));
    add("two-legs", legs.say(session_setup(b"A", 0, 0)).step(step::SIGN, tree_connect("\\\\NAS\\IPC$")));

    let mut listing = Talk::plain();
    listing.file().say(close()).say(create(DIRECTORY)).say(close());
    listing.say(create(Create { name: "", disposition: 1, options: 1, ..OPEN }));
    for class in [1, 2, 3, 12, 37, 38, 60] {
        listing.say(query_directory(class, 1, "*", 4096));
    }
    add("listing", listing.say(query_directory(37, 3, "f<.>", 200)).say(query_directory(37, 0, "*", 4096)));

    let mut queries = Talk::plain();
    queries.file();
    for class in [4, 5, 6, 7, 8, 9, 14, 16, 17, 18, 21, 22, 28, 34, 35, 48, 59] {
        queries.say(query_info(1, class, 1024, &[]));
    }
    for class in [1, 3, 4, 5, 6, 7, 8, 11] {
        queries.say(query_info(2, class, 1024, &[]));
    }
    add("queries", queries.say(query_info(3, 0, 1024, &[])).say(query_info(1, 15, 1024, &[0; 8])));

    let mut sets = Talk::plain();
    sets.file().say(set_info(1, 4, &[[0xFF; 32].as_slice(), &[2, 0, 0, 0, 0, 0, 0, 0]].concat()));
    sets.say(set_info(1, 20, &wide(100))).say(set_info(1, 19, &wide(4096))).say(set_info(1, 14, &wide(5)));
    sets.say(set_info(1, 10, &rename("other", 0))).say(set_info(1, 13, &[1]));
    add("sets", sets.say(create(OPEN)).say(close()));

    let mut locks = Talk::plain();
    locks.file().say(lock(&[(0, 10, 2), (20, 10, 1)])).step(step::SECOND, negotiate(&[0x0302], &[]));
    locks.step(step::SECOND, session_setup(b"A", 0, 0)).step(step::SECOND, tree_connect("\\\\NAS\\data"));
    locks.step(step::SECOND, create(OPEN)).step(step::SECOND, lock(&[(5, 10, 2)]));
    locks.say(lock(&[(0, 10, 4)])).step(step::SECOND, close());
    add("locks", locks.say(simple(command::CANCEL)).say(close()));

    let mut watch = Talk::plain();
    watch.say(create(DIRECTORY)).say(notify(0xFFF)).step(step::SECOND, negotiate(&[0x0302], &[]));
    watch.step(step::SECOND, session_setup(b"A", 0, 0)).step(step::SECOND, tree_connect("\\\\NAS\\data"));
    watch.step(step::SECOND, create(Create { name: "folder\\new", ..OPEN }));
    add("notify", watch.step(step::SECOND, close()).say(close()));

    let mut leases = Talk::plain();
    let request = context(b"RqLs", &pack![[1; 16], long(7), long(0), [0; 8]], 0);
    leases.say(create(Create { oplock: 0xFF, contexts: &request, ..OPEN }));
    leases.step(step::SECOND, negotiate(&[0x0302], &[])).step(step::SECOND, session_setup(b"A", 0, 0));
    leases.step(step::SECOND, tree_connect("\\\\NAS\\data")).step(step::SECOND, create(OPEN));
    leases
        .say(message(command::OPLOCK_BREAK, pack![short(36), short(0), long(0), [1; 16], long(1), wide(0)]));
    add("leases", leases.step(step::LATER, simple(command::ECHO)));
    let mut parked = Talk::plain();
    parked.say(create(Create { oplock: 0xFF, contexts: &request, ..OPEN }));
    parked.step(step::SECOND, negotiate(&[0x0302], &[])).step(step::SECOND, session_setup(b"A", 0, 0));
    parked.step(step::SECOND, tree_connect("\\\\NAS\\data")).step(step::SECOND, create(OPEN));
    add("class08-parked-cut", parked.step(step::SECOND | step::CUT, Vec::new()));
    let mut oplocks = Talk::plain();
    oplocks.say(create(Create { oplock: 9, ..OPEN })).step(step::SECOND, negotiate(&[0x0302], &[]));
    oplocks.step(step::SECOND, session_setup(b"A", 0, 0)).step(step::SECOND, tree_connect("\\\\NAS\\data"));
    oplocks.step(step::SECOND, create(OPEN));
    add("oplocks", oplocks.say(message(command::OPLOCK_BREAK, pack![short(24), [1, 0], long(0), FILE])));

    let mut durable = Talk::plain();
    let batch = context(b"DHnQ", &[0; 16], 0);
    durable.say(create(Create { oplock: 9, contexts: &batch, ..OPEN })).step(step::CUT, Vec::new());
    durable.say(negotiate(&[0x0302], &[])).say(session_setup(b"A", 0, 0)).say(tree_connect("\\\\NAS\\data"));
    let again = context(b"DHnC", &FILE, 0);
    add("durable", durable.say(create(Create { oplock: 9, contexts: &again, disposition: 1, ..OPEN })));

    let mut controls = Talk::plain();
    controls.file().say(ioctl(0x0014_0078, FILE, &[], 32));
    controls.say(ioctl(
        0x0014_40F2,
        FILE,
        &pack![[0; 24], long(1), long(0), wide(0), wide(30), long(5), long(0)],
        12,
    ));
    controls.say(ioctl(0x0009_80C8, FILE, &pack![wide(0), wide(10)], 0)).say(ioctl(
        0x0014_01FC,
        [0xFF; 16],
        &[],
        4096,
    ));
    let validate = pack![long(0x7F), [3; 16], short(1), short(2), short(0x0202), short(0x0302)];
    add("controls", controls.say(ioctl(0x0014_0204, [0xFF; 16], &validate, 24)));

    let open_query_close = [create(OPEN), query_info(1, 18, 1024, &[]), close()];
    let mut related = open_query_close.clone();
    for element in &mut related[1..] {
        while let Some(at) = element.windows(16).position(|window| window == FILE) {
            element[at..at + 16].fill(0xFF);
        }
    }
    add("compound-related", Talk::plain().say(compound(&related, true)).say(compound(&related, true)));
    add("compound-unrelated", Talk::plain().file().say(compound(&open_query_close, false)));
    let mut ends = Talk::plain();
    add(
        "ends",
        ends.file()
            .say(message(command::FLUSH, pack![short(24), short(0), long(0), FILE]))
            .say(simple(command::TREE_DISCONNECT))
            .say(simple(command::LOGOFF)),
    );
}

/// What attackers do.
fn wrong(add: &mut dyn FnMut(&str, &mut Talk)) {
    let bare = || Talk { bytes: vec![0], flags: 0 };
    // 1: lengths.
    for length in [0, 3, 4, 63, 64, 65] {
        let mut short = negotiate(&[0x0302], &[]);
        short.truncate(length);
        add(&format!("class01-length-{length}"), bare().say(short));
    }
    let mut size = read(10, 0);
    size[64] = 48;
    add("class01-structure-size", Talk::plain().file().say(size));
    add(
        "class01-transform",
        bare().say(pack![b"\xFDSMB", [0; 32], long(u32::MAX), long(0x0001_0000), wide(1)]),
    );
    add("class01-compressed", bare().say(pack![b"\xFCSMB", long(u32::MAX), short(1), short(0), long(0)]));
    // 2: negotiate and create contexts.
    for (name, kind, data) in [
        ("preauth-counts", 1, pack![short(0xFFFF), short(0xFFFF), short(1)]),
        ("cipher-count", 2, pack![short(0xFFFF), short(1)]),
        ("no-data", 1, Vec::new()),
    ] {
        let mut list = contexts(2, 1);
        list.insert(0, (kind, data));
        add(
            &format!("class02-{name}"),
            Talk { bytes: vec![0], flags: step::FIX }.say(negotiate(&[0x0311], &list)),
        );
    }
    let mut offset = negotiate(&[0x0311], &contexts(2, 1));
    offset[92..96].copy_from_slice(&long(0xFFFF_FFF8));
    add("class02-offset", bare().say(offset.clone()));
    offset[92..96].copy_from_slice(&long(101));
    offset[96..98].fill(0xFF);
    add("class02-count", bare().say(offset));
    for (name, next, tag) in
        [("loop", 8u32, b"MxAc"), ("beyond", 0xFFFF_FFF0, b"AlSi"), ("backwards", 0x8000_0000, b"QFid")]
    {
        let contexts = context(tag, &[1; 8], next);
        add(
            &format!("class02-create-{name}"),
            Talk::plain().say(create(Create { contexts: &contexts, ..OPEN })),
        );
    }
    // 4: compounds.
    let mut beyond = compound(&[create(OPEN), close()], false);
    beyond[20..24].copy_from_slice(&long(0xFFFF_FFF8));
    add("class04-next", Talk::plain().say(beyond.clone()));
    beyond[20..24].copy_from_slice(&long(1));
    add("class04-misaligned", Talk::plain().say(beyond));
    let gone = [create(OPEN), simple(command::TREE_DISCONNECT), read(10, 0), close()];
    add("class04-disconnected", Talk::plain().say(compound(&gone, true)));
    let logged_off = [create(OPEN), simple(command::LOGOFF), read(10, 0), close()];
    add("class04-logged-off", Talk::plain().say(compound(&logged_off, true)));
    let space: Vec<_> = (0..8).map(|_| query_info(1, 18, 0x1_0000, &[])).collect();
    add("class04-space", Talk::plain().file().say(compound(&space, false)));
    // 5: arithmetic.
    for (name, offset, length) in
        [("wrap", u64::MAX - 5, 10), ("sign", i64::MAX as u64, 10), ("length", 0, u32::MAX)]
    {
        add(&format!("class05-read-{name}"), Talk::plain().file().say(read(length, offset)));
    }
    add("class05-write-wrap", Talk::plain().file().say(write(u64::MAX - 3, b"12345678")));
    let mut data = write(0, b"12345678");
    data[66..68].copy_from_slice(&short(0xFFFF));
    add("class05-write-offset", Talk::plain().file().say(data.clone()));
    data[66..68].copy_from_slice(&short(112));
    data[68..72].copy_from_slice(&long(u32::MAX));
    add("class05-write-length", Talk::plain().file().say(data));
    add("class05-size", Talk::plain().file().say(set_info(1, 20, &wide(u64::MAX / 2))));
    // 6: credits.
    for charge in [0u16, 2, 0xFFFF] {
        let mut charged = read(100, 0);
        charged[6..8].copy_from_slice(&short(charge));
        add(&format!("class06-charge-{charge}"), Talk::plain().file().say(charged).say(read(0x10_0000, 0)));
    }
    let mut replay = Talk::plain();
    let mut echo = simple(command::ECHO);
    echo[36..48].fill(0);
    replay.flags = 0;
    add("class06-replay", replay.say(echo.clone()).say(echo));
    // 7: memory before authentication.
    let mut setups = Talk { bytes: vec![0], flags: step::FIX };
    setups.say(negotiate(&[0x0302], &[]));
    for _ in 0..20 {
        let mut setup = session_setup(b"C", 0, 0);
        setup[40..48].fill(0);
        setups.say(setup);
    }
    add("class07-setups", &mut setups);
    // 8: lifetimes.
    let mut lifetimes = Talk::plain();
    lifetimes.file().say(close()).say(read(10, 0)).say(simple(command::TREE_DISCONNECT)).say(create(OPEN));
    add("class08-closed", lifetimes.say(simple(command::LOGOFF)).say(tree_connect("\\\\NAS\\data")));
    let mut waiting = Talk::plain();
    waiting.file().say(lock(&[(0, 10, 2)])).say(create(OPEN)).say(lock(&[(0, 10, 2)]));
    add("class08-waiting-logoff", waiting.say(simple(command::LOGOFF)));
    let mut previous = Talk::plain();
    add(
        "class08-previous",
        previous
            .file()
            .step(step::SECOND, negotiate(&[0x0302], &[]))
            .step(step::SECOND, session_setup(b"A", 0, 0x5E5E_5E5E_5E5E_5E5E)),
    );
    // 9: authority.
    let mut bind = Talk::plain();
    bind.file().step(step::SECOND, negotiate(&[0x0302], &[])).step(step::SECOND, session_setup(b"B", 1, 0));
    add("class09-bind", bind.say(read(10, 0)));
    let mut reader = Talk::new(option::READ_ONLY, 0x0302, 0, 0, 0);
    reader.say(create(OPEN)).say(create(Create {
        access: 0x0012_0089,
        disposition: 1,
        name: "",
        options: 1,
        ..OPEN
    }));
    reader.say(set_info(1, 13, &[1])).say(ioctl(0x0009_80C8, FILE, &pack![wide(0), wide(10)], 0));
    add("class09-read-only", reader.say(set_info(1, 10, &rename("x", 1))));
    // 10: unsigned where signing is required.
    add("class10-unsigned", Talk::new(option::SIGNING_REQUIRED, 0x0302, 0, 0, 0).file());
    add("class10-unsealed", Talk::new(option::ENCRYPTION_REQUIRED, 0x0302, 0, 0, step::SIGN).file());
    // 11: loops.
    let mut none = Talk::plain();
    none.say(create(Create { name: "", disposition: 1, options: 1, ..OPEN }));
    add(
        "class11-no-match",
        none.say(query_directory(37, 0, "nothing*", 4096)).say(query_directory(37, 0, "*", 8)),
    );
    add(
        "class11-attributes",
        Talk::plain().file().say(set_info(1, 15, &pack![long(4), [0, 1, 0, 0], b"a\0"])),
    );
    let lots: Vec<_> = (0..100).map(|at| (at, u64::MAX, 2)).collect();
    add("class11-locks", Talk::plain().file().say(lock(&lots)).say(lock(&[(u64::MAX, 2, 2)])));
    let beyond = pack![wide(u64::MAX / 2), wide(u64::MAX / 2 + 10)];
    add("class11-zero-data", Talk::plain().file().say(ioctl(0x0009_80C8, FILE, &beyond, 0)));
    let chunk = pack![FILE, [0; 8], long(0xFFFF), long(0), wide(0), wide(0), long(u32::MAX), long(0)];
    add("class11-copy-chunks", Talk::plain().file().say(ioctl(0x0014_40F2, FILE, &chunk, 12)));
    // 12: names.
    for (index, name) in
        ["..", "\\file", "a\\..\\..\\b", "file:stream", "fi*le", "con", "a\\\\b", "file::$DATA", "x\\"]
            .iter()
            .enumerate()
    {
        add(
            &format!("class12-name-{index}"),
            Talk::plain().say(create(Create { name, ..OPEN })).say(close()),
        );
    }
    for (index, path) in
        ["", "\\", "\\\\NAS\\", "\\\\\\", "data", "\\\\NAS\\data\\more", "\\\\NAS\\DATA"].iter().enumerate()
    {
        add(&format!("class12-share-{index}"), Talk::plain().say(tree_connect(path)).say(create(OPEN)));
    }
    let mut pipe = Talk::plain();
    pipe.say(tree_connect("\\\\NAS\\IPC$"));
    for name in ["srvsvc", "\\srvsvc", "a\\srvsvc", "..\\srvsvc"] {
        pipe.say(create(Create { name, disposition: 1, ..OPEN }));
    }
    add("class12-pipes", pipe.say(write(0, &[5, 0, 11, 3, 16, 0, 0, 0, 72, 0, 0, 0])).say(read(1024, 0)));
}
