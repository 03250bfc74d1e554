//! What went wrong, as the user sees it, and the exit code that scripts see.

use std::io::Write;
use std::process::ExitCode;

/// Exit code of everything that the user asked for wrongly: flags, configuration, a fault that cannot be injected here.
pub(crate) const USAGE: u8 = 2;

/// An error with its exit code and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure {
    error: anyhow::Error,
    code: u8,
    hint: Option<String>,
}

impl Failure {
    /// What the user asked for cannot be done; exit code 2.
    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self { error: error.into(), code: USAGE, hint: None }
    }

    /// The same failure with a hint.
    pub(crate) fn hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into);
        self
    }

    /// The same failure with another exit code.
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// Tells the user on stderr.
    pub(crate) fn report(&self) -> ExitCode {
        let mut text = format!("error: {}\n", self.error);
        for cause in self.error.chain().skip(1) {
            // thiserror's `{source}` in a message already says what its source says.
            if !text.contains(&cause.to_string()) {
                text.push_str(&format!("  caused by: {cause}\n"));
            }
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  hint: {hint}\n"));
        }
        tell(&text);
        ExitCode::from(self.code)
    }
}

/// Anything that is not the user's doing; exit code 1.
impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), code: 1, hint: None }
    }
}

/// The text with its line breaks, one at its end, everything else made printable: a cause may quote whatever answered on a socket.
fn printable_lines(text: &str) -> String {
    text.lines().map(|line| perfwatch_model::printable(line.as_bytes()) + "\n").collect()
}

/// Tells on stderr how it goes: stdout is for the result.
pub(crate) fn tell(text: &str) {
    // When stderr is gone there is nobody left to tell.
    let _ = std::io::stderr().write_all(printable_lines(text).as_bytes());
}

/// Writes to stdout. A reader that went away (`| head`) is an end, not an error.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::printable_lines;

    #[test]
    fn a_cause_that_quotes_hostile_bytes_commands_no_terminal() {
        let text = printable_lines("error: got \x1b[2J\n  caused by: \u{202e}evil\n");
        assert_eq!(text, "error: got \\x1b[2J\n  caused by: \\u{202e}evil\n");
    }
}
