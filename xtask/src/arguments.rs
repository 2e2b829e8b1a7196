//! Command-line options: `--name value`, `--name=value` and `--flag`.

/// The words after the command, taken away option by option.
#[derive(Debug)]
pub struct Arguments {
    words: Vec<String>,
}

impl Arguments {
    /// All of `words`.
    pub fn new(words: Vec<String>) -> Self {
        Self { words }
    }

    /// Whether the flag `name` (with its dashes) is there.
    pub fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// The values of every `name`, in order.
    pub fn values(&mut self, name: &str) -> Result<Vec<String>, String> {
        let mut values = Vec::new();
        let mut rest = Vec::new();
        let mut words = std::mem::take(&mut self.words).into_iter();
        while let Some(word) = words.next() {
            if word == name {
                values.push(words.next().ok_or_else(|| format!("{name} wants a value"))?);
            } else if let Some(value) = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                values.push(value.to_string());
            } else {
                rest.push(word);
            }
        }
        self.words = rest;
        Ok(values)
    }

    /// The value of `name`, which may be given once.
    pub fn value(&mut self, name: &str) -> Result<Option<String>, String> {
        let mut values = self.values(name)?;
        if values.len() > 1 {
            return Err(format!("{name} is given twice"));
        }
        Ok(values.pop())
    }

    /// The value of `name` as a TCP port; 0 asks for any that is free.
    pub fn port(&mut self, name: &str, default: u16) -> Result<u16, String> {
        match self.value(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name}: {text} is not a port")),
        }
    }

    /// An error when words are left over.
    pub fn finish(self) -> Result<(), String> {
        match self.words.first() {
            Some(word) => Err(format!("what is {word}? (cargo xtask help)")),
            None => Ok(()),
        }
    }
}

/// Bytes that a text as `512M` or `4G` means.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..).unwrap_or("").to_ascii_uppercase().as_str() {
        "" => 1,
        "K" | "KIB" => 1 << 10,
        "M" | "MIB" => 1 << 20,
        "G" | "GIB" => 1 << 30,
        "T" | "TIB" => 1u64 << 40,
        _ => 0,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).unwrap_or(0);
    if bytes == 0 { Err(format!("{text} is not a size (512M, 4G)")) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Arguments {
        Arguments::new(line.split(' ').map(str::to_string).collect())
    }

    #[test]
    fn options_in_any_order_and_form() {
        let mut given = arguments("--dir=/tmp/x --headless --qemu-arg -S --smb-port 1 --qemu-arg --trace");
        assert!(given.flag("--headless") && !given.flag("--headless"));
        assert_eq!(given.value("--dir"), Ok(Some("/tmp/x".into())));
        assert_eq!(given.port("--smb-port", 2), Ok(1));
        assert_eq!(given.port("--smb-port2", 2), Ok(2));
        assert_eq!(given.values("--qemu-arg"), Ok(vec!["-S".into(), "--trace".into()]));
        assert_eq!(given.finish(), Ok(()));
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(arguments("--dir").value("--dir"), Err("--dir wants a value".into()));
        assert_eq!(arguments("--a=1 --a 2").value("--a"), Err("--a is given twice".into()));
        assert_eq!(arguments("--p 0").port("--p", 1), Ok(0));
        assert!(arguments("--p 70000").port("--p", 1).is_err());
        assert!(arguments("--unknown").finish().is_err());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4G"), Ok(4 << 30));
        assert_eq!(size("512m"), Ok(512 << 20));
        assert_eq!(size("1000"), Ok(1000));
        for wrong in ["", "G", "4X", "0", "99999999999T", "-1G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
