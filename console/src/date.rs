//! Calendar dates from seconds since 1970 UTC, and back (proleptic Gregorian calendar, no leap seconds).

use alloc::format;
use alloc::string::String;

/// A moment, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Date {
    /// The year, 1970 to 9999.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// 0 to 59.
    pub second: u32,
}

const DAY: u64 = 86_400;
/// Days in 400 years: the calendar repeats after them.
const ERA: u64 = 146_097;
/// Days from 0000-03-01, where the count of an era starts, to 1970-01-01.
const TO_1970: u64 = 719_468;

impl Date {
    /// The date `seconds` after the start of 1970.
    #[must_use]
    pub fn from_seconds(seconds: u64) -> Self {
        // Years are counted from March, so that the day that leap years have more is a year's last.
        let days = seconds / DAY + TO_1970;
        let (era, day_of_era) = (days / ERA, days % ERA);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Five months from March on have 153 days together.
        let march_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * march_month + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let of_day = seconds % DAY;
        Self {
            year: small(year),
            month: small(month),
            day: small(day),
            hour: small(of_day / 3600),
            minute: small(of_day / 60 % 60),
            second: small(of_day % 60),
        }
    }

    /// Seconds since the start of 1970, if there is such a moment after it.
    #[must_use]
    pub fn to_seconds(self) -> Option<u64> {
        let leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let month_days = match self.month {
            2 => 28 + u32::from(leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        let valid = (1970..=9999).contains(&self.year)
            && (1..=month_days).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !valid {
            return None;
        }
        let year = u64::from(self.year) - u64::from(self.month <= 2);
        let march_month = u64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let year_of_era = year % 400;
        let day_of_year = (153 * march_month + 2) / 5 + u64::from(self.day) - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        let days = (year / 400 * ERA + day_of_era).checked_sub(TO_1970)?;
        Some(days * DAY + u64::from(self.hour * 3600 + self.minute * 60 + self.second))
    }
}

/// `2026-11-22 12:30:00`.
#[must_use]
pub fn format_time(seconds: u64) -> String {
    let Date { year, month, day, hour, minute, second } = Date::from_seconds(seconds);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Reads `2026-11-22`, and `12:30` or `12:30:00`.
#[must_use]
pub fn parse_time(day: &str, time: &str) -> Option<u64> {
    let mut numbers = [0; 6];
    let mut day_parts = day.splitn(3, '-');
    let mut time_parts = time.splitn(3, ':');
    for (index, number) in numbers.iter_mut().enumerate() {
        let part =
            if index < 3 { day_parts.next()? } else { time_parts.next().or((index == 5).then_some("0"))? };
        if part.is_empty() || part.len() > 4 || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    let [year, month, day, hour, minute, second] = numbers;
    Date { year, month, day, hour, minute, second }.to_seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_399, "2000-02-28 23:59:59"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_000_000_000, "2001-09-09 01:46:40"),
            (4_107_542_400, "2100-03-01 00:00:00"),
            (253_402_300_799, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(format_time(seconds), text);
            let (day, time) = text.split_once(' ').unwrap();
            assert_eq!(parse_time(day, time), Some(seconds));
        }
    }

    #[test]
    fn there_and_back_for_every_day_of_two_centuries() {
        for day in 0..73_000 {
            let seconds = day * DAY + 45_296;
            assert_eq!(Date::from_seconds(seconds).to_seconds(), Some(seconds));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for (day, time) in [
            ("2026-02-29", "00:00"),
            ("2026-13-01", "00:00"),
            ("2026-00-01", "00:00"),
            ("1969-12-31", "23:59"),
            ("2026-01-01", "24:00"),
            ("2026-01-01", ""),
            ("2026-01", "10:00"),
            ("2026-1-x", "10:00"),
            ("20260-1-1", "10:00"),
        ] {
            assert_eq!(parse_time(day, time), None, "{day} {time}");
        }
        assert_eq!(parse_time("2026-1-2", "3:04"), parse_time("2026-01-02", "03:04:00"));
    }
}
