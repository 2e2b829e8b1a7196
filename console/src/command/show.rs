//! What there is to see: `status`, `net`, `log`, `crash`, `date`.

use alloc::format;
use alloc::string::ToString;
use alloc::vec;
use core::fmt::{self, Write};

use super::{Next, report, usage};
use crate::date::{format_time, parse_time};
use crate::system::System;
use crate::table::{Align, Table, bytes, duration, percent};

/// `status`: how everything stands.
pub(crate) fn status(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let verbose = match arguments {
        [] => false,
        ["-v"] => true,
        _ => return usage("status", out),
    };
    let status = system.status();
    writeln!(out, "{}  {}", status.host_name, status.build)?;
    writeln!(out, "  machine      {}", status.machine)?;
    writeln!(out, "  up           {}", duration(status.uptime))?;
    if let Some(now) = system.wall_clock() {
        writeln!(out, "  clock        {} UTC", format_time(now))?;
    }
    let memory = &status.memory;
    let used = bytes(memory.used);
    let high = bytes(memory.high_water);
    writeln!(out, "  memory       {} fitted, image {}", bytes(memory.total), bytes(memory.image))?;
    writeln!(out, "  heap         {used} of {} in use, at most {high}", bytes(memory.heap))?;
    let cache = &status.cache;
    let (filled, dirty) = (bytes(cache.used), bytes(cache.dirty));
    let hits = percent(cache.hits, cache.hits.saturating_add(cache.misses));
    writeln!(out, "  cache        {filled} of {}, {dirty} to be written, {hits} hits", bytes(cache.total))?;
    let (busy, workers) = status.workers;
    writeln!(out, "  workers      {busy} of {workers} busy, at most {}", status.workers_high_water)?;
    writeln!(out, "  connections  {} of {}", status.connections.0, status.connections.1)?;
    writeln!(out, "  sessions     {} of {}", status.sessions.0, status.sessions.1)?;
    writeln!(out, "  open files   {} of {}", status.open_files.0, status.open_files.1)?;
    writeln!(out, "  handles      {} of {}", status.handles.0, status.handles.1)?;
    writeln!(out, "  requests     {}", status.requests)?;
    if verbose {
        let sizes = &status.sizes;
        writeln!(
            out,
            "  sizes        session {} bytes, open file {} bytes, handle {} bytes",
            sizes.session, sizes.open_file, sizes.handle
        )?;
        writeln!(out)?;
        let mut table = Table::new(&[
            ("THREAD", Align::Left),
            ("STATE", Align::Left),
            ("STACK", Align::Right),
            ("MOST USED", Align::Right),
            ("", Align::Right),
        ]);
        for thread in system.threads() {
            let share = percent(thread.stack_high_water as u64, thread.stack as u64);
            let (stack, most) = (thread.stack.to_string(), thread.stack_high_water.to_string());
            table.row(vec![thread.name, thread.state, stack, most, share]);
        }
        table.print(out)?;
    }
    let connections = system.connections();
    if !connections.is_empty() {
        writeln!(out)?;
        let mut table = Table::new(&[
            ("CLIENT", Align::Left),
            ("PORT", Align::Right),
            ("SMB", Align::Left),
            ("USER", Align::Left),
            ("PROTECTION", Align::Left),
            ("HANDLES", Align::Right),
        ]);
        for connection in connections {
            let (port, handles) = (connection.port.to_string(), connection.handles.to_string());
            table.row(vec![
                connection.peer,
                port,
                connection.dialect,
                connection.user,
                connection.protection,
                handles,
            ]);
        }
        table.print(out)?;
    }
    Ok(Next::Prompt)
}

/// `net`: the Ethernet ports.
pub(crate) fn net(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    if !arguments.is_empty() {
        return usage("net", out);
    }
    for port in system.ports() {
        let [a, b, c, d, e, f] = port.address;
        let link = if port.link { "link up" } else { "no link" };
        let (index, model) = (port.index, &port.model);
        writeln!(out, "port {index}  {model}  {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}  {link}")?;
        for address in &port.ip_addresses {
            writeln!(out, "        {address}")?;
        }
        if !port.gateway.is_empty() {
            writeln!(out, "        gateway {}", port.gateway)?;
        }
        writeln!(
            out,
            "        {} frames received, {} sent, {} lost or damaged",
            port.received, port.sent, port.errors
        )?;
    }
    Ok(Next::Prompt)
}

/// `log`: its last lines.
pub(crate) fn log(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let count = match arguments {
        [] => 20,
        [count] => match count.parse::<usize>() {
            Ok(count) => count,
            Err(_) => return usage("log", out),
        },
        _ => return usage("log", out),
    };
    let mut total = 0usize;
    system.log(&mut |_| total += 1);
    let mut index = 0usize;
    let mut result = Ok(());
    system.log(&mut |line| {
        // Lines that come in between the two passes are shown as well.
        if index + count >= total && result.is_ok() {
            result = writeln!(out, "{line}");
        }
        index += 1;
    });
    result.map(|()| Next::Prompt)
}

/// `crash`: the report of the last one.
pub(crate) fn crash(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    if !arguments.is_empty() {
        return usage("crash", out);
    }
    match system.crash() {
        Some(crash) => writeln!(
            out,
            "After {}:\n{}",
            duration(crash.uptime.saturating_mul(1000)),
            crash.text.trim_end()
        )?,
        None => writeln!(out, "No crash is recorded.")?,
    }
    Ok(Next::Prompt)
}

/// `date`: the clock.
pub(crate) fn date(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    match arguments {
        [] => match system.wall_clock() {
            Some(now) => writeln!(out, "{} UTC", format_time(now))?,
            None => writeln!(out, "The clock is not set.")?,
        },
        [day, time] => match parse_time(day, time) {
            Some(seconds) => {
                let outcome = system.set_wall_clock(seconds);
                report(&outcome, &format!("{} UTC", format_time(seconds)), out)?;
            }
            None => return usage("date", out),
        },
        _ => return usage("date", out),
    }
    Ok(Next::Prompt)
}

#[cfg(test)]
mod tests {
    use crate::command::tests::ran;

    #[test]
    fn status_says_what_there_is_to_say() {
        let (out, _) = ran("status");
        for part in [
            "1 day 02:03:04",
            "5.0 MiB of 300 MiB in use",
            "2 of 16 busy",
            "90 % hits",
            "3.1.1",
            "2001-09-09",
        ] {
            assert!(out.contains(part), "{part} in\n{out}");
        }
        assert!(!out.contains("sizes"));
        let (out, _) = ran("status -v");
        assert!(out.contains("session 280 bytes, open file 96 bytes, handle 24 bytes"), "{out}");
        assert!(out.contains("worker 0") && out.contains("25 %"), "{out}");
    }

    #[test]
    fn net_log_and_crash() {
        assert!(ran("net").0.contains("52:54:00:12:34:56  link up"));
        assert_eq!(ran("log 2").0, "line 98\nline 99\n");
        assert_eq!(ran("log").0.lines().count(), 20);
        assert_eq!(ran("log 0").0, "");
        assert_eq!(ran("log 1000").0.lines().count(), 100);
        assert_eq!(ran("crash").0, "After 00:01:01:\npanic\nbacktrace\n");
    }

    #[test]
    fn the_clock() {
        assert_eq!(ran("date").0, "2001-09-09 01:46:40 UTC\n");
        assert_eq!(ran("date 2001-09-09 01:46:40").1, ["clock 1000000000"]);
        assert_eq!(ran("date 2001-02-29 01:46").1, [""; 0]);
    }
}
