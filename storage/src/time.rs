//! Time stamps: FILETIME, and the two formats of the FAT family.

/// 100-nanosecond intervals since 1 January 1601, UTC (MS-DTYP 2.3.3). 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

/// Where a volume gets the time from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> FileTime;
}

const SECOND: u64 = 10_000_000;
const DAY: u64 = 86_400;
/// Days from 1601-01-01 to 1980-01-01.
const DAYS_TO_1980: u64 = 138_426;
/// The last moment that the formats can hold: the end of 2107.
const LAST_DAY: u64 = DAYS_TO_1980 + 46_751 - 1;

/// A time as the FAT family stores it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DosTime {
    /// Year - 1980 in bits 9-15, month in 5-8, day in 0-4.
    pub(crate) date: u16,
    /// Hours in bits 11-15, minutes in 5-10, seconds / 2 in 0-4.
    pub(crate) time: u16,
    /// 0 to 199: what `time` cannot hold, in units of 10 ms.
    pub(crate) centiseconds: u8,
}

impl DosTime {
    /// The nearest earlier time in the format, within 1980 to 2107.
    pub(crate) fn from_file_time(time: FileTime) -> Self {
        let centiseconds = time.0 / (SECOND / 100);
        let mut seconds = centiseconds / 100;
        let mut rest = (centiseconds % 100) as u8;
        if seconds < DAYS_TO_1980 * DAY {
            (seconds, rest) = (DAYS_TO_1980 * DAY, 0);
        }
        if seconds >= (LAST_DAY + 1) * DAY {
            (seconds, rest) = ((LAST_DAY + 1) * DAY - 1, 99);
        }
        let (year, month, day) = civil(seconds / DAY);
        let second = seconds % DAY;
        let date = ((year - 1980) as u16) << 9 | (month as u16) << 5 | day as u16;
        let time =
            ((second / 3600) as u16) << 11 | ((second / 60 % 60) as u16) << 5 | (second % 60 / 2) as u16;
        Self { date, time, centiseconds: rest + (second % 2) as u8 * 100 }
    }

    /// The moment, taken as UTC; 0 for a date that does not exist.
    pub(crate) fn to_file_time(self) -> FileTime {
        let (year, month, day) =
            (1980 + u64::from(self.date >> 9), u64::from(self.date >> 5 & 15), u64::from(self.date & 31));
        let (hour, minute, second) =
            (u64::from(self.time >> 11), u64::from(self.time >> 5 & 63), u64::from(self.time & 31) * 2);
        if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 59 {
            return FileTime(0);
        }
        let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
        FileTime(seconds * SECOND + u64::from(self.centiseconds.min(199)) * (SECOND / 100))
    }

    /// As one number, date above time.
    pub(crate) fn packed(self) -> u32 {
        u32::from(self.date) << 16 | u32::from(self.time)
    }

    /// From date and time in one number.
    pub(crate) fn unpack(packed: u32, centiseconds: u8) -> Self {
        Self { date: (packed >> 16) as u16, time: packed as u16, centiseconds }
    }
}

/// Applies exFAT's UTC offset field (7.4.10): bit 7 says it is valid, the rest is a signed count of 15 minutes.
pub(crate) fn apply_utc_offset(time: FileTime, offset: u8) -> FileTime {
    if offset & 0x80 == 0 || time.0 == 0 {
        return time;
    }
    let quarters = i64::from(((offset << 1) as i8) >> 1);
    FileTime(time.0.saturating_add_signed(-quarters * 15 * 60 * SECOND as i64))
}

/// Days since 1601-01-01 of a date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let before = year - 1601;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days = before * 365 + before / 4 - before / 100 + before / 400;
    for earlier in 1..month {
        days += month_length(earlier, leap);
    }
    days + day - 1
}

fn month_length(month: u64, leap: bool) -> u64 {
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Year, month and day of a day since 1601-01-01.
fn civil(day: u64) -> (u64, u64, u64) {
    // 1601 starts a cycle of 400 years, so the cycles need no offset.
    let (cycles, day) = (day / 146_097, day % 146_097);
    let centuries = (day / 36_524).min(3);
    let day = day - centuries * 36_524;
    let (fours, day) = (day / 1461, day % 1461);
    let years = (day / 365).min(3);
    let mut day = day - years * 365;
    let year = 1601 + cycles * 400 + centuries * 100 + fours * 4 + years;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut month = 1;
    while day >= month_length(month, leap) {
        day -= month_length(month, leap);
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(days(1980, 1, 1), DAYS_TO_1980);
        assert_eq!(days(2107, 12, 31), LAST_DAY);
        // 2024-02-29 12:34:57.43 UTC is Unix time 1709210097.43.
        let time = FileTime((1_709_210_097 + 11_644_473_600) * SECOND + 4_300_000);
        let dos = DosTime::from_file_time(time);
        assert_eq!(dos.date, (2024 - 1980) << 9 | 2 << 5 | 29);
        assert_eq!(dos.time, 12 << 11 | 34 << 5 | 28);
        assert_eq!(dos.centiseconds, 143);
        assert_eq!(dos.to_file_time(), time);
        // Two hours east, stored as local time.
        assert_eq!(apply_utc_offset(time, 0x80 | 8).0, time.0 - 7200 * SECOND);
        assert_eq!(apply_utc_offset(time, 0xFC).0, time.0 + 3600 * SECOND);
    }

    #[test]
    fn every_day_there_and_back() {
        for day in DAYS_TO_1980..=LAST_DAY {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
            let time = FileTime((day * DAY + day % DAY) * SECOND);
            assert_eq!(DosTime::from_file_time(time).to_file_time(), time);
        }
        assert_eq!(DosTime::from_file_time(FileTime(0)).packed(), 0x0021 << 16);
        assert_eq!(DosTime::unpack(0, 0).to_file_time(), FileTime(0));
        assert_eq!(DosTime::from_file_time(FileTime(u64::MAX)).date >> 9, 127);
    }
}
