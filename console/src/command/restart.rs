//! The end: `reboot`, `poweroff`.

use core::fmt::{self, Write};

use super::{Next, carry_out, usage};
use crate::shell::Action;
use crate::system::{Restart, System};

/// `reboot`.
pub(crate) fn reboot(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    restart("reboot", Restart::Reboot, arguments, system, out)
}

/// `poweroff`.
pub(crate) fn poweroff(
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    restart("poweroff", Restart::PowerOff, arguments, system, out)
}

fn restart(
    name: &str,
    how: Restart,
    arguments: &[&str],
    system: &mut dyn System,
    out: &mut dyn Write,
) -> Result<Next, fmt::Error> {
    let action = Action::Restart(how);
    let handles: usize = match arguments {
        [] => system.connections().iter().map(|connection| connection.handles).sum(),
        ["now"] => 0,
        _ => return usage(name, out),
    };
    if handles > 0 {
        writeln!(out, "Clients have {handles} files and folders open.")?;
        return Ok(Next::Confirm(action));
    }
    carry_out(&action, system, out)?;
    Ok(Next::Prompt)
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::command::run;
    use crate::command::tests::ran;
    use crate::model::Model;

    #[test]
    fn restart_asks_only_when_somebody_is_disturbed() {
        assert_eq!(ran("reboot").1, ["Reboot"]);
        assert_eq!(ran("poweroff").1, ["PowerOff"]);
        let (mut model, mut out) = (Model { handles: 3, ..Model::default() }, String::new());
        assert!(matches!(run("poweroff", &mut model, &mut out), Ok(Next::Confirm(_))));
        assert!(model.done.is_empty());
        assert!(matches!(run("poweroff now", &mut model, &mut out), Ok(Next::Prompt)));
        assert_eq!(model.done, ["PowerOff"]);
    }
}
