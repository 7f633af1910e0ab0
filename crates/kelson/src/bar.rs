//! A progress bar on standard error, for when a terminal is watching.

use std::io::{IsTerminal, Write};

const WIDTH: u64 = 30;

pub struct Bar {
    what: String,
    /// What is counted; bytes where there is no word.
    unit: Option<&'static str>,
    shown: bool,
    on: bool,
}

/// One line, without its end.
fn render(what: &str, unit: Option<&str>, done: u64, total: u64) -> String {
    if total == 0 {
        return format!("{what} …");
    }
    let done = done.min(total);
    // Rounded down: full only when all is there.
    let filled = usize::try_from(u128::from(done) * u128::from(WIDTH) / u128::from(total)).unwrap_or(0);
    let rest = usize::try_from(WIDTH).unwrap_or(0).saturating_sub(filled);
    let percent = u128::from(done) * 100 / u128::from(total);
    let amount = match unit {
        Some(unit) => format!("{done} of {total} {unit}"),
        None => format!("{:.1} of {:.1} MB", done as f64 / 1e6, total as f64 / 1e6),
    };
    format!("{what} [{}{}] {percent:>3} % {amount}", "#".repeat(filled), "-".repeat(rest))
}

impl Bar {
    /// Counts bytes.
    pub fn new(what: &str) -> Self {
        Self::of(what, None)
    }

    pub fn counting(what: &str, unit: &'static str) -> Self {
        Self::of(what, Some(unit))
    }

    fn of(what: &str, unit: Option<&'static str>) -> Self {
        let mut bar = Self { what: what.to_owned(), unit, shown: false, on: std::io::stderr().is_terminal() };
        bar.show(0, 0);
        bar
    }

    pub fn show(&mut self, done: u64, total: u64) {
        if self.on {
            self.shown = true;
            let mut err = std::io::stderr().lock();
            let _ = write!(err, "\r\x1b[K{}", render(&self.what, self.unit, done, total))
                .and_then(|()| err.flush());
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
        assert_eq!(render("x", None, 0, 0), "x …");
        assert_eq!(
            render("x", None, 5_000_000, 10_000_000),
            format!("x [{}{}]  50 % 5.0 of 10.0 MB", "#".repeat(15), "-".repeat(15))
        );
        assert!(render("x", None, 9, 9).contains("100 %") && render("x", None, 999, 1000).contains(" 99 %"));
        assert!(render("x", None, u64::MAX, u64::MAX / 2).contains("100 %"));
    }
}
