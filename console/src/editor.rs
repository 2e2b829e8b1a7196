//! The line editor: bytes from a terminal in, an edited line out.
//!
//! Understands the keys that xterm, tmux, screen and the Linux console send, and asks of the terminal only carriage
//! return, backspace and space, so that it works on a dumb one too. A line longer than the row scrolls sideways.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// Bytes of UTF-8 that a line can have; further characters are refused with a bell.
const LINE_LIMIT: usize = 512;
/// Lines of history.
const HISTORY_LIMIT: usize = 32;
/// Columns used of a row, prompt included: one less than a small terminal has, as the last one wraps on some.
const COLUMNS: usize = 79;

/// What a byte led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line was entered.
    Line(String),
    /// The line was given up with ^C.
    Interrupted,
    /// ^D on an empty line.
    EndOfFile,
    /// Tab: complete the word before the cursor, please.
    Complete,
}

/// How far into an escape sequence the input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    /// Not in one.
    None,
    /// After ESC.
    Start,
    /// After ESC [ or ESC O, with the first number so far.
    Control(u16),
}

/// A line being edited.
#[derive(Debug)]
pub struct Editor {
    prompt: String,
    /// Whether what is typed is shown and remembered.
    secret: bool,
    line: Vec<char>,
    /// Characters before the cursor.
    cursor: usize,
    /// Columns on the row that were written to, prompt included.
    drawn: usize,
    history: Vec<String>,
    /// Which line of history is shown, counted from the newest: 0 is the one being typed.
    recalled: usize,
    /// What was typed before history was looked at.
    typed: Vec<char>,
    escape: Escape,
    /// A UTF-8 sequence in progress: its bytes, and how many.
    partial: ([u8; 4], usize),
    /// The last byte was a carriage return: a line feed that follows belongs to it.
    after_return: bool,
}

impl Default for Editor {
    fn default() -> Self {
        Self::new()
    }
}

impl Editor {
    /// An editor without a prompt.
    #[must_use]
    pub fn new() -> Self {
        Self {
            prompt: String::new(),
            secret: false,
            line: Vec::new(),
            cursor: 0,
            drawn: 0,
            history: Vec::new(),
            recalled: 0,
            typed: Vec::new(),
            escape: Escape::None,
            partial: ([0; 4], 0),
            after_return: false,
        }
    }

    /// Starts a new line with `prompt`; a `secret` one is neither shown nor remembered.
    pub fn begin(&mut self, prompt: &str, secret: bool, out: &mut dyn Write) -> fmt::Result {
        self.prompt.clear();
        self.prompt.push_str(prompt);
        self.secret = secret;
        self.line.clear();
        self.cursor = 0;
        self.recalled = 0;
        self.redraw(out)
    }

    /// Writes the row anew, as after something else was printed.
    pub fn redraw(&mut self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('\r')?;
        out.write_str(&self.prompt)?;
        let mut column = self.prompt.chars().map(width).sum::<usize>();
        let mut cursor_column = column;
        let shown = if self.secret { &[] } else { self.line.as_slice() };
        for (index, character) in shown.iter().enumerate().skip(self.visible_start()) {
            if column + width(*character) > COLUMNS {
                break;
            }
            out.write_char(*character)?;
            column += width(*character);
            if index < self.cursor {
                cursor_column = column;
            }
        }
        let end = column;
        while column < self.drawn {
            out.write_char(' ')?;
            column += 1;
        }
        self.drawn = end;
        for _ in cursor_column..column {
            out.write_char('\u{8}')?;
        }
        Ok(())
    }

    /// Leaves the row blank, for something else to be printed over it.
    pub fn erase(&mut self, out: &mut dyn Write) -> fmt::Result {
        out.write_char('\r')?;
        for _ in 0..self.drawn {
            out.write_char(' ')?;
        }
        self.drawn = 0;
        out.write_char('\r')
    }

    /// The word before the cursor and whether it is the line's first, for completion.
    #[must_use]
    pub fn word(&self) -> (String, bool) {
        let before = self.line.get(..self.cursor).unwrap_or(&[]);
        let start = before.iter().rposition(|character| *character == ' ').map_or(0, |space| space + 1);
        let first = before.iter().take(start).all(|character| *character == ' ');
        (before.iter().skip(start).collect(), first)
    }

    /// Types `text` at the cursor.
    pub fn insert(&mut self, text: &str, out: &mut dyn Write) -> fmt::Result {
        for character in text.chars() {
            self.insert_character(character, out)?;
        }
        Ok(())
    }

    /// Takes one byte from the terminal.
    pub fn byte(&mut self, byte: u8, out: &mut dyn Write) -> Result<Option<Event>, fmt::Error> {
        let after_return = core::mem::take(&mut self.after_return);
        match self.escape {
            Escape::None => {}
            Escape::Start => {
                self.escape = match byte {
                    b'[' | b'O' => Escape::Control(0),
                    _ => Escape::None,
                };
                return Ok(None);
            }
            Escape::Control(number) => {
                self.control(number, byte, out)?;
                return Ok(None);
            }
        }
        if byte >= 0x80 {
            return self.utf8(byte, out).map(|()| None);
        }
        // A sequence that an ASCII byte cuts off is forgotten.
        self.partial.1 = 0;
        match byte {
            b'\r' => {
                self.after_return = true;
                return self.enter(out).map(Some);
            }
            b'\n' if after_return => {}
            b'\n' => return self.enter(out).map(Some),
            0x03 => {
                self.line.clear();
                self.cursor = 0;
                self.drawn = 0;
                out.write_str("^C\r\n")?;
                return Ok(Some(Event::Interrupted));
            }
            0x04 if self.line.is_empty() => return Ok(Some(Event::EndOfFile)),
            0x04 => self.delete(out)?,
            0x08 | 0x7F => self.backspace(out)?,
            0x09 if !self.secret => return Ok(Some(Event::Complete)),
            0x01 => self.move_to(0, out)?,
            0x02 => self.move_to(self.cursor.saturating_sub(1), out)?,
            0x05 => self.move_to(self.line.len(), out)?,
            0x06 => self.move_to(self.cursor + 1, out)?,
            0x0B => {
                self.line.truncate(self.cursor);
                self.redraw(out)?;
            }
            0x0C => {
                // A dumb terminal takes it for a form feed, or shows nothing: either is right.
                out.write_str("\u{1b}[H\u{1b}[2J")?;
                self.drawn = 0;
                self.redraw(out)?;
            }
            0x0E => self.recall(self.recalled.wrapping_sub(1), out)?,
            0x10 => self.recall(self.recalled + 1, out)?,
            0x15 => {
                self.line.drain(..self.cursor.min(self.line.len()));
                self.cursor = 0;
                self.redraw(out)?;
            }
            0x17 => self.delete_word(out)?,
            0x1B => self.escape = Escape::Start,
            0x20..=0x7E => self.insert_character(char::from(byte), out)?,
            _ => {}
        }
        Ok(None)
    }

    /// The inside of an escape sequence.
    fn control(&mut self, number: u16, byte: u8, out: &mut dyn Write) -> fmt::Result {
        self.escape = Escape::None;
        match byte {
            b'0'..=b'9' => {
                self.escape = Escape::Control(number.wrapping_mul(10).wrapping_add(u16::from(byte - b'0')));
            }
            // Modifiers, as in ESC [ 1 ; 5 C: their value is not looked at, the key still is.
            b';' => self.escape = Escape::Control(0),
            b'A' => self.recall(self.recalled + 1, out)?,
            b'B' => self.recall(self.recalled.wrapping_sub(1), out)?,
            b'C' => self.move_to(self.cursor + 1, out)?,
            b'D' => self.move_to(self.cursor.saturating_sub(1), out)?,
            b'H' => self.move_to(0, out)?,
            b'F' => self.move_to(self.line.len(), out)?,
            b'~' => match number {
                1 | 7 => self.move_to(0, out)?,
                4 | 8 => self.move_to(self.line.len(), out)?,
                3 => self.delete(out)?,
                _ => {}
            },
            // Another parameter or intermediate byte: goes on until a final one.
            0x20..=0x3F => self.escape = Escape::Control(number),
            _ => {}
        }
        Ok(())
    }

    /// A byte of a multi-byte character.
    fn utf8(&mut self, byte: u8, out: &mut dyn Write) -> fmt::Result {
        let (bytes, length) = &mut self.partial;
        if byte >= 0xC0 {
            *length = 0;
        }
        if let Some(place) = bytes.get_mut(*length) {
            *place = byte;
            *length += 1;
        }
        let expected = match bytes.first() {
            Some(0xC2..=0xDF) => 2,
            Some(0xE0..=0xEF) => 3,
            Some(0xF0..=0xF4) => 4,
            _ => 0,
        };
        if *length < expected {
            return Ok(());
        }
        let character = bytes
            .get(..*length)
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .and_then(|s| s.chars().next());
        *length = 0;
        match character {
            // C1 controls would be obeyed by some terminals.
            Some(character) if !character.is_control() => self.insert_character(character, out),
            _ => Ok(()),
        }
    }

    fn insert_character(&mut self, character: char, out: &mut dyn Write) -> fmt::Result {
        let length: usize = self.line.iter().map(|character| character.len_utf8()).sum();
        if length + character.len_utf8() > LINE_LIMIT {
            return out.write_char('\u{7}');
        }
        let at_end = self.cursor == self.line.len();
        self.line.insert(self.cursor.min(self.line.len()), character);
        self.cursor += 1;
        let width = width(character);
        if self.secret {
            Ok(())
        } else if at_end && width > 0 && self.drawn + width <= COLUMNS && self.visible_start() == 0 {
            // The common case: one character to echo.
            self.drawn += width;
            out.write_char(character)
        } else {
            self.redraw(out)
        }
    }

    fn backspace(&mut self, out: &mut dyn Write) -> fmt::Result {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.delete(out)?;
        }
        Ok(())
    }

    fn delete(&mut self, out: &mut dyn Write) -> fmt::Result {
        if self.cursor < self.line.len() {
            self.line.remove(self.cursor);
            self.redraw(out)?;
        }
        Ok(())
    }

    fn delete_word(&mut self, out: &mut dyn Write) -> fmt::Result {
        let end = self.cursor;
        let before =
            |editor: &Self| editor.cursor.checked_sub(1).and_then(|index| editor.line.get(index).copied());
        while before(self) == Some(' ') {
            self.cursor -= 1;
        }
        while before(self).is_some_and(|character| character != ' ') {
            self.cursor -= 1;
        }
        self.line.drain(self.cursor..end.min(self.line.len()));
        self.redraw(out)
    }

    fn move_to(&mut self, cursor: usize, out: &mut dyn Write) -> fmt::Result {
        let cursor = cursor.min(self.line.len());
        if cursor != self.cursor {
            self.cursor = cursor;
            self.redraw(out)?;
        }
        Ok(())
    }

    /// Shows the line `back` lines ago; 0 is what was being typed.
    fn recall(&mut self, back: usize, out: &mut dyn Write) -> fmt::Result {
        if self.secret || back > self.history.len() {
            return Ok(());
        }
        if self.recalled == 0 {
            self.typed = core::mem::take(&mut self.line);
        }
        self.recalled = back;
        self.line = match self.history.len().checked_sub(back).and_then(|index| self.history.get(index)) {
            Some(line) if back > 0 => line.chars().collect(),
            _ => core::mem::take(&mut self.typed),
        };
        self.cursor = self.line.len();
        self.redraw(out)
    }

    fn enter(&mut self, out: &mut dyn Write) -> Result<Event, fmt::Error> {
        self.move_to(self.line.len(), out)?;
        out.write_str("\r\n")?;
        self.drawn = 0;
        let line: String = self.line.drain(..).collect();
        self.cursor = 0;
        self.recalled = 0;
        if !self.secret && !line.trim().is_empty() && self.history.last() != Some(&line) {
            if self.history.len() == HISTORY_LIMIT {
                self.history.remove(0);
            }
            self.history.push(line.clone());
        }
        Ok(Event::Line(line))
    }

    /// The first character shown: moves right in steps of half a row, so that the cursor stays on it.
    fn visible_start(&self) -> usize {
        let room = COLUMNS.saturating_sub(self.prompt.chars().map(width).sum()).max(8);
        let mut start = 0;
        let mut used = 0;
        for (index, character) in self.line.iter().take(self.cursor).enumerate() {
            used += width(*character);
            if used >= room {
                start = index + 1
                    - self.line.get(..=index).map_or(0, |line| {
                        // Go on showing what fits into half a row before the cursor.
                        let mut kept = 0;
                        line.iter()
                            .rev()
                            .take_while(|c| {
                                kept += width(**c);
                                kept <= room / 2
                            })
                            .count()
                    });
                used = self.line.get(start..=index).unwrap_or(&[]).iter().map(|c| width(*c)).sum();
            }
        }
        start
    }
}

/// Columns that a terminal gives a character: 2 for East Asian wide ones and emoji, 0 for combining marks.
fn width(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36F | 0x200B..=0x200F | 0x20D0..=0x20FF | 0xFE00..=0xFE0F | 0xFE20..=0xFE2F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A dumb terminal: knows carriage return, line feed, backspace and bell, and nothing of escape sequences.
    #[derive(Default)]
    pub(crate) struct Terminal {
        pub(crate) rows: Vec<Vec<char>>,
        column: usize,
    }

    impl Terminal {
        pub(crate) fn new() -> Self {
            Self { rows: vec![Vec::new()], column: 0 }
        }

        /// The last row without blanks at its end, and the cursor's column.
        pub(crate) fn row(&self) -> (String, usize) {
            let row: String = self.rows.last().unwrap().iter().filter(|c| **c != '\0').collect();
            (row.trim_end().to_string(), self.column)
        }
    }

    impl Write for Terminal {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for character in text.chars() {
                let row = self.rows.last_mut().unwrap();
                match character {
                    '\r' => self.column = 0,
                    '\n' => self.rows.push(Vec::new()),
                    '\u{8}' => self.column = self.column.checked_sub(1).expect("backspace at the margin"),
                    '\u{7}' => {}
                    _ => {
                        assert!(!character.is_control(), "{character:?} on a dumb terminal");
                        let width = width(character);
                        row.resize(row.len().max(self.column + width), ' ');
                        for (cell, value) in
                            row[self.column..].iter_mut().zip([character, '\0'].iter().take(width))
                        {
                            *cell = *value;
                        }
                        self.column += width;
                        assert!(self.column < 80, "the row wraps");
                    }
                }
            }
            Ok(())
        }
    }

    fn started() -> (Editor, Terminal) {
        let (mut editor, mut terminal) = (Editor::new(), Terminal::new());
        editor.begin("> ", false, &mut terminal).unwrap();
        (editor, terminal)
    }

    fn type_in(editor: &mut Editor, terminal: &mut Terminal, keys: &[u8]) -> Vec<Event> {
        keys.iter().filter_map(|byte| editor.byte(*byte, terminal).unwrap()).collect()
    }

    /// The row and cursor after `keys` on an empty line.
    fn after(keys: &[u8]) -> (String, usize) {
        let (mut editor, mut terminal) = started();
        assert_eq!(type_in(&mut editor, &mut terminal, keys), []);
        terminal.row()
    }

    fn row(text: &str, cursor: usize) -> (String, usize) {
        (text.to_string(), cursor)
    }

    #[test]
    fn every_key_does_what_it_says() {
        assert_eq!(after(b"help"), row("> help", 6));
        assert_eq!(after(b"helpx\x7F"), row("> help", 6));
        assert_eq!(after(b"hel\x08\x08\x08\x08p"), row("> p", 3));
        assert_eq!(after(b"hlp\x1B[D\x1B[De"), row("> help", 4), "left arrows");
        assert_eq!(
            after(b"hlp\x1BOD\x1BODe\x1B[C\x1B[C\x1B[C!"),
            row("> help!", 7),
            "application mode, right arrows"
        );
        assert_eq!(after(b"elp\x1B[Hh\x1B[Fx"), row("> helpx", 7), "home and end");
        assert_eq!(after(b"elp\x1B[1~h\x1B[4~x"), row("> helpx", 7), "home and end of screen and tmux");
        assert_eq!(after(b"xhelp\x01\x1B[3~\x05s"), row("> helps", 7), "delete; ^A and ^E");
        assert_eq!(after(b"user add bob\x17\x17eve"), row("> user eve", 10), "^W");
        assert_eq!(after(b"user add\x1B[D\x1B[D\x1B[D\x15"), row("> add", 2), "^U");
        assert_eq!(after(b"user add\x02\x02\x02\x02\x0B"), row("> user", 6), "^B and ^K");
        assert_eq!(after(b"ab\x1B[1;5Dc"), row("> acb", 4), "control and left arrow");
        assert_eq!(after(b"ab\x1B[20~\x1B[?25h\x00c"), row("> abc", 5), "other sequences are swallowed");
    }

    #[test]
    fn a_line_is_entered_once_by_return_line_feed_or_both() {
        for end in [&b"\r"[..], b"\n", b"\r\n"] {
            let (mut editor, mut terminal) = started();
            let keys = [b"one", end, b"two", end].concat();
            let lines = type_in(&mut editor, &mut terminal, &keys);
            assert_eq!(lines, [Event::Line("one".into()), Event::Line("two".into())]);
        }
    }

    #[test]
    fn interrupt_and_end_of_file() {
        let (mut editor, mut terminal) = started();
        assert_eq!(type_in(&mut editor, &mut terminal, b"abc\x03"), [Event::Interrupted]);
        assert_eq!(type_in(&mut editor, &mut terminal, b"\x04"), [Event::EndOfFile]);
        assert_eq!(type_in(&mut editor, &mut terminal, b"ab\x01\x04\r"), [Event::Line("b".into())]);
    }

    #[test]
    fn history_goes_up_and_down_and_keeps_what_was_typed() {
        let (mut editor, mut terminal) = started();
        type_in(&mut editor, &mut terminal, b"one\rtwo\rtwo\r  \r");
        editor.begin("> ", false, &mut terminal).unwrap();
        type_in(&mut editor, &mut terminal, b"thr\x1B[A");
        assert_eq!(terminal.row(), row("> two", 5));
        type_in(&mut editor, &mut terminal, b"\x1B[A\x1B[A\x1B[A");
        assert_eq!(terminal.row(), row("> one", 5), "a repeated line counts once, a blank one not at all");
        type_in(&mut editor, &mut terminal, b"\x1B[B\x1B[B\x1B[B");
        assert_eq!(terminal.row(), row("> thr", 5));
        for number in 0..100 {
            type_in(&mut editor, &mut terminal, format!("{number}\r").as_bytes());
        }
        assert_eq!(editor.history.len(), HISTORY_LIMIT);
    }

    #[test]
    fn characters_of_several_bytes_and_columns() {
        assert_eq!(after("für\u{7F}\u{7F}oo".as_bytes()), row("> foo", 5));
        assert_eq!(after("日本\x1B[D\x7F".as_bytes()), row("> 本", 2));
        assert_eq!(after("日本\x1B[Dx".as_bytes()), row("> 日x本", 5));
        assert_eq!(after("e\u{301}x\x7F\x7F".as_bytes()), row("> e", 3), "a combining mark");
        assert_eq!(after(b"a\xC3(b\xFF\x80\xE2\x82c"), row("> a(bc", 6), "what is not UTF-8 is dropped");
        assert_eq!(after(b"a\xC2\x9Bb"), row("> ab", 4), "C1 controls too");
    }

    #[test]
    fn long_lines_scroll_and_are_bounded() {
        let (mut editor, mut terminal) = started();
        let long: String = (0..400).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
        type_in(&mut editor, &mut terminal, long.as_bytes());
        assert!(terminal.row().0.starts_with("> ") && terminal.row().0.ends_with(&long[380..]));
        type_in(&mut editor, &mut terminal, b"\x01");
        assert_eq!(terminal.row(), (format!("> {}", &long[..77]), 2));
        for _ in 0..400 {
            type_in(&mut editor, &mut terminal, b"\x1B[C");
        }
        assert_eq!(type_in(&mut editor, &mut terminal, b"\r"), [Event::Line(long)]);
        type_in(&mut editor, &mut terminal, &[b'x'; 1000]);
        assert_eq!(type_in(&mut editor, &mut terminal, b"\r"), [Event::Line("x".repeat(LINE_LIMIT))]);
    }

    #[test]
    fn secrets_are_not_shown_or_remembered() {
        let (mut editor, mut terminal) = (Editor::new(), Terminal::new());
        editor.begin("Password: ", true, &mut terminal).unwrap();
        let events = type_in(&mut editor, &mut terminal, b"\x1B[Ahushx\x7F\x1B[D\x1B[Cs\t\r");
        assert_eq!(events, [Event::Line("hushs".into())]);
        assert_eq!(terminal.rows[0].iter().collect::<String>().trim_end(), "Password:");
        assert!(editor.history.is_empty());
    }

    #[test]
    fn any_bytes_are_survived() {
        let (mut editor, mut text) = (Editor::new(), String::new());
        let mut state = 7u32;
        for _ in 0..200_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            editor.byte((state >> 24) as u8, &mut text).unwrap();
            text.clear();
            assert!(editor.cursor <= editor.line.len());
        }
    }
}
