//! Progress of a batch: a bar for the whole and a line for each image that runs; a line for each that ended.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

use batch::{Line, Outcome};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use report::{Event, Progress};

use super::output::{Output, single_line};

/// The whole batch.
pub struct Board {
    bars: Option<Bars>,
    is_quiet: bool,
    count: usize,
    ended: Mutex<usize>,
}

struct Bars {
    multi: MultiProgress,
    whole: ProgressBar,
    lanes: Vec<ProgressBar>,
}

impl Board {
    /// Bars on a terminal, lines elsewhere, nothing when quiet. `bytes` are those of all images.
    pub fn new(output: &Output, count: usize, lanes: usize, bytes: u64) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let bars = (is_terminal && !output.quiet).then(|| Bars::new(count, lanes, bytes));
        Self { bars, is_quiet: output.quiet, count, ended: Mutex::new(0) }
    }

    /// Where an image's events go.
    pub fn lane(&self, lane: usize, image: &str) -> LaneProgress<'_> {
        let bar = self.bars.as_ref().and_then(|bars| bars.lanes.get(lane));
        let name = single_line(image.rsplit('/').next().unwrap_or(image));
        LaneProgress { bar, board: self, name }
    }

    /// An image ended.
    pub fn ended(&self, line: &Line, bytes: u64) {
        let mut ended = self.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *ended += 1;
        let width = self.count.to_string().len();
        let result = match line.result {
            Outcome::Done => "done".to_owned(),
            Outcome::Unmet => format!("unmet: {}", line.unmet.join(", ")),
            Outcome::Failed => {
                let message = line.message.as_deref().unwrap_or_default();
                format!("error[{}]: {message}", line.code)
            }
        };
        self.say(&format!(
            "[{:>width$}/{}] {} {} ({:.1} s) {result}",
            *ended,
            self.count,
            line.action.name(),
            line.image,
            line.seconds
        ));
        if let Some(bars) = &self.bars {
            bars.whole.inc(bytes);
            bars.whole.set_message(format!("{}/{}", *ended, self.count));
        }
    }

    /// All is over.
    pub fn finish(&self) {
        if let Some(bars) = &self.bars {
            bars.lanes.iter().for_each(ProgressBar::finish_and_clear);
            bars.whole.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        let text = single_line(text);
        match &self.bars {
            _ if self.is_quiet => {}
            // Nothing can be done when standard error is closed.
            Some(bars) => drop(bars.multi.println(text)),
            None => drop(writeln!(anstream::stderr(), "{text}")),
        }
    }
}

impl Bars {
    fn new(count: usize, lanes: usize, bytes: u64) -> Self {
        let multi = MultiProgress::new();
        let styled = |bar: ProgressBar, template: &str| {
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar
        };
        let lanes = (0..lanes).map(|_| {
            let bar = multi.add(ProgressBar::new(0));
            let bar = styled(bar, "  {prefix:30!} {msg:10} {bytes:>10} {elapsed}");
            bar.enable_steady_tick(Duration::from_millis(500));
            bar
        });
        let lanes = lanes.collect();
        let whole =
            styled(multi.add(ProgressBar::new(bytes)), "{msg:>12} [{bar:30}] {bytes}/{total_bytes} {eta}");
        whole.set_message(format!("0/{count}"));
        whole.enable_steady_tick(Duration::from_millis(500));
        Self { multi, whole, lanes }
    }
}

/// Events of one image.
pub struct LaneProgress<'a> {
    bar: Option<&'a ProgressBar>,
    board: &'a Board,
    name: String,
}

impl Progress for LaneProgress<'_> {
    fn event(&self, event: Event<'_>) {
        match (event, self.bar) {
            (Event::Stage { name, total }, Some(bar)) => {
                bar.set_prefix(self.name.clone());
                bar.set_message(name.to_owned());
                bar.set_length(total.unwrap_or(0));
                bar.set_position(0);
                bar.reset_elapsed();
            }
            (Event::Advance { done }, Some(bar)) => bar.set_position(done),
            (Event::Note { text }, _) => self.board.say(&format!("note: {}: {text}", self.name)),
            _ => {}
        }
    }
}
