//! Time stamps: FILETIME, and the two formats of the FAT family.

/// 100-nanosecond intervals since 1 January 1601, UTC (MS-DTYP 2.3.3). 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileTime(pub u64);

/// In which steps a format keeps the times of a node, in 100-nanosecond intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    pub(crate) created: u64,
    pub(crate) modified: u64,
    pub(crate) accessed: u64,
}

impl Steps {
    pub(crate) const EXFAT: Steps =
        Steps { created: SECOND / 100, modified: SECOND / 100, accessed: 2 * SECOND };
    pub(crate) const FAT: Steps =
        Steps { created: SECOND / 100, modified: 2 * SECOND, accessed: DAY as u64 * SECOND };
}

impl FileTime {
    /// Later by up to 199 hundredths of a second; a time that is unknown stays so.
    pub(crate) fn plus_centiseconds(self, count: u8) -> Self {
        const CENTISECOND: u32 = (SECOND / 100) as u32;
        if self.0 == 0 {
            self
        } else {
            Self(self.0.saturating_add(u64::from(u32::from(count.min(199)) * CENTISECOND)))
        }
    }

    /// The last multiple of `step` 100-nanosecond intervals that is not later.
    pub(crate) fn cut(self, step: u64) -> FileTime {
        FileTime(self.0 - self.0 % step)
    }

    /// What is left of a time once it was stored: the years from 1980 to 2107, in steps of its field.
    pub(crate) fn as_stored(self, step: u64) -> FileTime {
        DosTime::from_file_time(self).to_file_time().cut(step)
    }
}

/// Where a volume gets the time from.
pub trait Clock: Send + Sync {
    /// The wall clock.
    fn now(&self) -> FileTime;
}

const SECOND: u64 = 10_000_000;
const DAY: u32 = 86_400;
/// Seconds from 1601-01-01 to 1980-01-01, where the formats begin.
const SECONDS_TO_1980: u64 = 138_426 * DAY as u64;
/// Days from 1980-01-01 to the end of 2107, where they end. Their seconds fit in 32 bits.
const DAYS: u32 = 46_751;
/// Days before each month in a common year, and the year's.
const BEFORE_MONTH: [u16; 13] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365];

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
        // One division of 64 bits, which costs a 32-bit machine a lot; the rest fits in 32.
        let since_1601 = time.0 / SECOND;
        let mut centiseconds = (time.0 - since_1601 * SECOND) as u32 / (SECOND / 100) as u32;
        let seconds = match since_1601.checked_sub(SECONDS_TO_1980).map(u32::try_from) {
            Some(Ok(seconds)) if seconds < DAYS * DAY => seconds,
            None => {
                centiseconds = 0;
                0
            }
            Some(_) => {
                centiseconds = 99;
                DAYS * DAY - 1
            }
        };
        let (year, month, day) = civil(seconds / DAY);
        let second = seconds % DAY;
        let date = year << 9 | month << 5 | day;
        let time = second / 3600 << 11 | second / 60 % 60 << 5 | second % 60 / 2;
        Self { date: date as u16, time: time as u16, centiseconds: (centiseconds + second % 2 * 100) as u8 }
    }

    /// The moment, taken as UTC; 0 for a date that does not exist.
    pub(crate) fn to_file_time(self) -> FileTime {
        let (date, time) = (u32::from(self.date), u32::from(self.time));
        let (year, month, day) = (date >> 9, date >> 5 & 15, date & 31);
        let (hour, minute, second) = (time >> 11, time >> 5 & 63, (time & 31) * 2);
        if !(1..=12).contains(&month) || day == 0 || hour > 23 || minute > 59 || second > 59 {
            return FileTime(0);
        }
        let seconds = u64::from(days(year, month, day) * DAY + hour * 3600 + minute * 60 + second);
        FileTime((SECONDS_TO_1980 + seconds) * SECOND).plus_centiseconds(self.centiseconds)
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

/// Days since 1980-01-01 of a date, its year counted from 1980. (Of the years that matter only 2100 is an exception from
/// the rule of four.)
fn days(year: u32, month: u32, day: u32) -> u32 {
    let before = BEFORE_MONTH.get(month as usize - 1).map_or(0, |&days| u32::from(days));
    let leap_days = year.div_ceil(4) - u32::from(year > 120);
    let this_year = u32::from(is_leap(year) && month > 2);
    year * 365 + leap_days + before + this_year + day - 1
}

fn is_leap(year: u32) -> bool {
    year % 4 == 0 && year != 120
}

/// Year (counted from 1980), month and day of a day since 1980-01-01.
fn civil(mut day: u32) -> (u32, u32, u32) {
    // 29 February 2100, which there is not, is day 43,889: counting it makes all years follow the rule of four.
    day += u32::from(day >= 43_889);
    let (fours, rest) = (day / 1461, day % 1461);
    let (year, mut rest) = match rest {
        0..366 => (fours * 4, rest),
        _ => (fours * 4 + 1 + (rest - 366) / 365, (rest - 366) % 365),
    };
    if year % 4 == 0 {
        match rest {
            59 => return (year, 2, 29),
            60.. => rest -= 1,
            _ => (),
        }
    }
    // A month has 28 to 31 days, so the guess is right or one too low.
    let mut month = rest / 32;
    while BEFORE_MONTH.get(month as usize + 1).is_some_and(|&next| u32::from(next) <= rest) {
        month += 1;
    }
    let before = BEFORE_MONTH.get(month as usize).map_or(0, |&days| u32::from(days));
    (year, month + 1, rest - before + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(days(0, 1, 1), 0);
        assert_eq!(days(127, 12, 31), DAYS - 1);
        assert_eq!((civil(43_888), civil(43_889)), ((120, 2, 28), (120, 3, 1)));
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
        let mut expected = (0, 1, 1);
        for day in 0..DAYS {
            let (year, month, date) = civil(day);
            assert_eq!((year, month, date), expected);
            let length = match month {
                2 => 28 + u32::from(is_leap(year)),
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = match (month, date) {
                (12, 31) => (year + 1, 1, 1),
                (_, date) if date == length => (year, month + 1, 1),
                _ => (year, month, date + 1),
            };
            assert_eq!(days(year, month, date), day);
            let time = FileTime((SECONDS_TO_1980 + u64::from(day * DAY + day % DAY)) * SECOND);
            assert_eq!(DosTime::from_file_time(time).to_file_time(), time);
        }
        assert_eq!(DosTime::from_file_time(FileTime(0)).packed(), 0x0021 << 16);
        assert_eq!(DosTime::unpack(0, 0).to_file_time(), FileTime(0));
        assert_eq!(DosTime::from_file_time(FileTime(u64::MAX)).date >> 9, 127);
    }
}
