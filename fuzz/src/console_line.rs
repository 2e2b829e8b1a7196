//! The console's line editor: any keys, in plain and in secret lines.
//!
//! Input: a byte, of which 1 makes lines secret, then keys.

use console::{Editor, Event};

/// The target.
pub fn run(data: &[u8]) {
    let Some((first, keys)) = data.split_first() else { return };
    let secret = first & 1 != 0;
    let mut editor = Editor::new();
    let mut out = String::new();
    editor.begin("nas> ", secret, &mut out).unwrap();
    for (index, key) in keys.iter().enumerate().take(4096) {
        let event = editor.byte(*key, &mut out).unwrap();
        match event {
            Some(Event::Line(line)) => {
                assert!(line.len() <= 4096 && !line.contains(['\r', '\n']));
                let telling = line.chars().any(|typed| !"nas> *".contains(typed));
                // ("^C" and the like are shown, too.)
                assert!(!secret || !telling || line.len() < 4 || !out.contains(&line), "a secret was shown");
                out.clear();
                editor.begin("nas> ", secret, &mut out).unwrap();
            }
            Some(_) => {
                let (word, _) = editor.word();
                if index % 3 == 0 {
                    editor.insert(&word, &mut out).unwrap();
                }
                editor.erase(&mut out).unwrap();
                editor.redraw(&mut out).unwrap();
            }
            None => {}
        }
        assert!(out.len() < 1 << 20);
        if out.len() > 1 << 16 {
            out.clear();
        }
    }
}
