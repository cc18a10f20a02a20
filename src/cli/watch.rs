use super::output;
use crate::{
    error::{Error, Result},
    exec::control,
    report::Live,
    store::Store,
};
#[cfg(feature = "screen")]
use std::io::IsTerminal;
use std::path::PathBuf;

/// Watch a sweep: what is at work, how its curves go, what waits, how long it takes
///
/// Attach and detach at any time, from any terminal; it only reads. `q` leaves, the arrow keys scroll. Where standard output
/// is no terminal, it prints once.
#[derive(clap::Args)]
pub struct Args {
    /// The sweep's name [default: the one planned last]
    sweep: Option<String>,
    /// Results folder
    #[arg(long, default_value = "results")]
    out: PathBuf,
    /// Print once and stop
    #[arg(long)]
    once: bool,
}

pub fn run(args: &Args) -> Result<u8> {
    let store = Store::read(&args.out.join("runner.sqlite"))?;
    let sweep = match &args.sweep {
        Some(name) => store.sweep(name)?.name,
        None => {
            store.sweeps()?.into_iter().next().map(|sweep| sweep.name).ok_or_else(|| Error::user("no sweep yet"))?
        }
    };
    let look = || Live::read(&store, &sweep, control::holder(&args.out));
    #[cfg(feature = "screen")]
    if !args.once && std::io::stdout().is_terminal() {
        screen::show(&look)?;
        return Ok(0);
    }
    output::print(look()?)?;
    Ok(0)
}

/// The screen.
#[cfg(feature = "screen")]
mod screen {
    use crate::{error::Result, report::Live};
    use ratatui::{
        Frame,
        crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
        layout::{Constraint, Layout},
        style::{Style, Stylize},
        text::Line,
        widgets::{Block, Gauge, Paragraph},
    };
    use std::time::Duration;

    /// Between two looks.
    const TICK: Duration = Duration::from_millis(500);

    /// Shows what `look` sees until somebody leaves.
    pub fn show(look: &dyn Fn() -> Result<Live>) -> Result<()> {
        let mut terminal = ratatui::try_init()?;
        let mut scroll = 0u16;
        let result = loop {
            let live = match look() {
                Ok(live) => live,
                Err(error) => break Err(error),
            };
            if let Err(error) = terminal.draw(|frame| draw(frame, &live, scroll)) {
                break Err(error.into());
            }
            match key() {
                Ok(None) => {}
                Ok(Some(KeyCode::Up)) => scroll = scroll.saturating_sub(1),
                Ok(Some(KeyCode::Down)) => scroll = scroll.saturating_add(1),
                Ok(Some(KeyCode::Char('q') | KeyCode::Esc)) => break Ok(()),
                Ok(Some(_)) => {}
                Err(error) => break Err(error),
            }
        };
        ratatui::try_restore()?;
        result
    }

    /// The key that was pressed, if one was before the next look; Ctrl-C is `q`.
    fn key() -> Result<Option<KeyCode>> {
        if !event::poll(TICK)? {
            return Ok(None);
        }
        Ok(match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Press => None,
            Event::Key(key) if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') => {
                Some(KeyCode::Char('q'))
            }
            Event::Key(key) => Some(key.code),
            _ => None,
        })
    }

    fn draw(frame: &mut Frame, live: &Live, scroll: u16) {
        let work = Constraint::Length(live.at_work.len().max(1) as u16 + 2);
        let areas = Layout::vertical([Constraint::Length(3), work, Constraint::Min(3), Constraint::Length(1)]);
        let [head, at_work, rest, foot] = areas.areas(frame.area());
        let done = live.finished + live.failed + live.pruned;
        let gauge = Gauge::default()
            .block(Block::bordered().title(live.headline()))
            .gauge_style(Style::new().green())
            .ratio((done as f64 / live.total.max(1) as f64).clamp(0.0, 1.0))
            .label(live.counts());
        frame.render_widget(gauge, head);
        let runs: Vec<Line> = live.at_work.iter().map(|run| Line::from(run.to_string())).collect();
        frame.render_widget(Paragraph::new(runs).block(Block::bordered().title("at work")), at_work);
        let [waiting, ended] = Layout::horizontal([Constraint::Percentage(45), Constraint::Min(10)]).areas(rest);
        let queue: Vec<Line> = live.queue.iter().map(|name| Line::from(name.as_str())).collect();
        let title = format!("waiting: {}", live.queue.len());
        frame.render_widget(Paragraph::new(queue).scroll((scroll, 0)).block(Block::bordered().title(title)), waiting);
        let lines: Vec<Line> = live.ended.iter().map(|(name, what)| Line::from(format!("{name}  {what}"))).collect();
        frame.render_widget(Paragraph::new(lines).scroll((scroll, 0)).block(Block::bordered().title("ended")), ended);
        frame.render_widget(Line::from(" q leaves, arrows scroll; the sweep goes on either way").dim(), foot);
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ratatui::{Terminal, backend::TestBackend};

        #[test]
        fn a_screen_has_everything_on_it() {
            let live = Live {
                sweep: "quick".into(),
                holder: Some("process 7".into()),
                total: 4,
                finished: 1,
                failed: 0,
                pruned: 0,
                paused: 1,
                left: Some(90.0),
                at_work: Vec::new(),
                queue: vec!["baseline seed 3".into()],
                ended: vec![("baseline seed 0".into(), "AUC 0.9000".into())],
            };
            let mut terminal = Terminal::new(TestBackend::new(100, 20)).unwrap();
            terminal.draw(|frame| draw(frame, &live, 0)).unwrap();
            let cells = terminal.backend().buffer().content().iter().map(|cell| cell.symbol());
            let text: String = cells.collect();
            for part in ["quick: process 7", "1 of 4 runs", "1 paused", "baseline seed 3", "AUC 0.9000", "waiting: 1"] {
                assert!(text.contains(part), "{part} in {text}");
            }
        }
    }
}
