//! A progress bar on standard error, for when a terminal is watching.

use std::io::{IsTerminal, Write};

const WIDTH: u64 = 30;

pub struct Bar {
    what: String,
    shown: bool,
    on: bool,
}

/// One line, without its end.
fn render(what: &str, done: u64, total: u64) -> String {
    if total == 0 {
        return format!("{what} …");
    }
    let done = done.min(total);
    // Rounded down: full only when all is there.
    let filled = usize::try_from(u128::from(done) * u128::from(WIDTH) / u128::from(total)).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    let percent = u128::from(done) * 100 / u128::from(total);
    let mb = |n: u64| n as f64 / 1e6;
    format!(
        "{what} [{}{}] {percent:>3} % {:.1} of {:.1} MB",
        "#".repeat(filled),
        "-".repeat(rest),
        mb(done),
        mb(total)
    )
}

impl Bar {
    pub fn new(what: &str) -> Self {
        let mut bar = Self { what: what.to_owned(), shown: false, on: std::io::stderr().is_terminal() };
        bar.show(0, 0);
        bar
    }

    pub fn show(&mut self, done: u64, total: u64) {
        if self.on {
            self.shown = true;
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{}", render(&self.what, done, total)).and_then(|()| err.flush());
        }
    }
}

impl Drop for Bar {
    /// What comes next starts on a clean line.
    fn drop(&mut self) {
        if self.shown {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::render;

    #[test]
    fn lines() {
        assert_eq!(render("x", 0, 0), "x …");
        assert_eq!(
            render("x", 5_000_000, 10_000_000),
            format!("x [{}{}]  50 % 5.0 of 10.0 MB", "#".repeat(15), "-".repeat(15))
        );
        assert!(render("x", 9, 9).contains("100 %") && render("x", 999, 1000).contains(" 99 %"));
        assert!(render("x", u64::MAX, u64::MAX / 2).contains("100 %"));
    }
}
