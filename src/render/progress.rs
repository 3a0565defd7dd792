//! Progress on standard error: a bar on a terminal, notes everywhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use report::{Event, Progress};

/// Shows the stages of one operation.
pub struct Bar {
    bar: Mutex<Option<ProgressBar>>,
    is_terminal: bool,
    quiet: bool,
    /// Percentages as lines where there is no terminal: the stage, its bytes, and what was said last.
    lines: Option<Mutex<(String, u64, u64)>>,
}

impl Bar {
    /// Draws only when standard error is a terminal; says nothing at all when `quiet`.
    pub fn new(quiet: bool) -> Self {
        Self { bar: Mutex::new(None), is_terminal: std::io::stderr().is_terminal(), quiet, lines: None }
    }

    /// Says every tenth of the work on a line of its own where standard error is no terminal.
    pub fn always(mut self, always: bool) -> Self {
        self.lines = (always && !self.is_terminal).then(Mutex::default);
        self
    }

    fn line(&self, event: &Event<'_>) {
        let Some(lines) = &self.lines else { return };
        let mut lines = lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (stage, total, said) = &mut *lines;
        match event {
            Event::Stage { name, total: new_total } => {
                (*stage, *total, *said) = (name.to_string(), new_total.unwrap_or(0), 0)
            }
            Event::Advance { done } if *total > 0 => {
                let tenth = done.saturating_mul(10) / *total;
                if tenth > *said {
                    *said = tenth;
                    let text = format!("{stage} {} %\n", tenth.min(10) * 10);
                    let _ = std::io::Write::write_all(&mut anstream::stderr(), text.as_bytes());
                }
            }
            _ => {}
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Progress for Bar {
    fn event(&self, event: Event<'_>) {
        if self.quiet {
            return;
        }
        self.line(&event);
        match event {
            Event::Stage { name, total } if self.is_terminal => {
                let style = match total {
                    Some(_) => {
                        ProgressStyle::with_template("{msg:>10} [{bar:30}] {bytes}/{total_bytes} {eta}")
                    }
                    None => ProgressStyle::with_template("{msg:>10} {spinner} {elapsed}"),
                };
                let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
                if let Ok(style) = style {
                    bar.set_style(style);
                }
                bar.set_message(name.to_owned());
                bar.enable_steady_tick(Duration::from_millis(200));
                if let Some(before) = self.locked().replace(bar) {
                    before.finish_and_clear();
                }
            }
            Event::Stage { .. } => {}
            Event::Advance { done } => {
                if let Some(bar) = self.locked().as_ref() {
                    bar.set_position(done);
                }
            }
            Event::Note { text } => {
                let line = format!("note: {}", super::output::single_line(text));
                match self.locked().as_ref() {
                    Some(bar) => bar.println(line),
                    None => {
                        let _ = std::io::Write::write_all(
                            &mut anstream::stderr(),
                            format!("{line}\n").as_bytes(),
                        );
                    }
                }
            }
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = self.locked().take() {
            bar.finish_and_clear();
        }
    }
}
