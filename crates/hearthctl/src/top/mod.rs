//! `top`: monitors the board and the service.

mod sample;
mod screen;

use std::time::Duration;

use tokio::time::Instant;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::bus::Bus;
use crate::error::{CtlError, Result};
use crate::output;
use crate::value::dict_to_json;
use sample::{History, Sample};

/// How often to poll the keys and the size of the window.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// Polls of the keys per query of the service: every [`sample::INTERVAL_S`].
const KEYS_PER_SAMPLE: u32 = 20;

/// `hearthctl top`.
pub async fn run(bus: &Bus, json: bool) -> Result {
    if json || !output::stdout_is_terminal() {
        return Err(CtlError::Usage(
            "`top` draws on a terminal: use `hearthctl status --watch`, with --json for scripts"
                .into(),
        ));
    }
    // Fails before the terminal is switched if the service cannot be reached.
    let began = Instant::now();
    let first = sample(bus, began).await?;
    let mut terminal = ratatui::init();
    let shown = show(bus, began, first, &mut terminal).await;
    ratatui::restore();
    shown
}

async fn show(
    bus: &Bus,
    began: Instant,
    first: Sample,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result {
    let mut history = History::default();
    let mut latest = first;
    loop {
        history.add(&latest);
        terminal.draw(|frame| history.draw(frame, &latest))?;
        for _ in 0..KEYS_PER_SAMPLE {
            tokio::time::sleep(KEYS_EVERY).await;
            while event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if ends(key) => return Ok(()),
                    Event::Resize(..) => {
                        terminal.draw(|frame| history.draw(frame, &latest))?;
                    }
                    _ => {}
                }
            }
        }
        latest = sample(bus, began).await?;
    }
}

async fn sample(bus: &Bus, began: Instant) -> Result<Sample> {
    let status = bus.properties().await?;
    let board = bus.service.get_board().await?;
    Ok(Sample {
        at_s: began.elapsed().as_secs_f64(),
        status: dict_to_json(&status),
        board: dict_to_json(&board),
    })
}

fn ends(key: KeyEvent) -> bool {
    let is_ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release
        && (is_ctrl_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}
