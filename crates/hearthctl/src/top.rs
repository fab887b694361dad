//! `top`: monitors the board and the service.

mod screen;

use std::time::Duration;

use tokio::time::Instant;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::bus::Bus;
use crate::error::{CtlError, Result};
use crate::output;
use crate::value::dict_to_json;
use screen::{Screen, View};

/// How often to poll the keys and the size of the window.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// Polls of the keys per query of the service: every [`screen::LOOK_EVERY_S`].
const KEYS_PER_LOOK: u32 = 20;

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
    let first = look(bus, began).await?;
    let mut terminal = ratatui::init();
    let shown = show(bus, began, first, &mut terminal).await;
    ratatui::restore();
    shown
}

async fn show(
    bus: &Bus,
    began: Instant,
    first: View,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result {
    let mut screen = Screen::default();
    let mut view = first;
    loop {
        screen.note(&view);
        terminal.draw(|frame| screen.draw(frame, &view))?;
        for _ in 0..KEYS_PER_LOOK {
            tokio::time::sleep(KEYS_EVERY).await;
            while event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if ends(key) => return Ok(()),
                    Event::Resize(..) => {
                        terminal.draw(|frame| screen.draw(frame, &view))?;
                    }
                    _ => {}
                }
            }
        }
        view = look(bus, began).await?;
    }
}

async fn look(bus: &Bus, began: Instant) -> Result<View> {
    let status = bus.properties().await?;
    let board = bus.service.get_board().await?;
    Ok(View {
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
