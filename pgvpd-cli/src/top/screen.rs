//! The terminal: what is drawn, and what keys do.

use std::time::{Duration, Instant};

use anyhow::Context;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Cell, Row, Table as Grid, TableState, Tabs};

use super::client::Client;
use super::model::{Model, Table};

/// What is on the screen.
struct View {
    model: Model,
    table: Table,
    /// The column to sort by.
    sort: Option<usize>,
    rows: TableState,
    is_held: bool,
    /// Why the last look failed.
    complaint: Option<String>,
}

/// What a key leads to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Draw,
    Leave,
}

/// Shows it until somebody leaves.
pub(super) fn run(client: &Client, interval: Duration) -> anyhow::Result<()> {
    let mut view = View::new();
    // Before the terminal is taken: who cannot be asked is told so plainly.
    view.model.take(client.status()?);
    let mut terminal = ratatui::try_init().context("cannot use this terminal")?;
    let shown = show(&mut terminal, &mut view, client, interval);
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    view: &mut View,
    client: &Client,
    interval: Duration,
) -> anyhow::Result<()> {
    let mut next_look = Instant::now() + interval;
    loop {
        terminal.draw(|frame| view.draw(frame))?;
        if event::poll(next_look.saturating_duration_since(Instant::now()))? {
            match event::read()? {
                Event::Key(key)
                    if key.kind == KeyEventKind::Press && view.on_key(key.code, key.modifiers) == Next::Leave =>
                {
                    return Ok(());
                }
                _ => {}
            }
            continue;
        }
        if !view.is_held {
            view.look(client.status());
        }
        next_look = Instant::now() + interval;
    }
}

impl View {
    fn new() -> Self {
        Self {
            model: Model::default(),
            table: Table::Sessions,
            sort: None,
            rows: TableState::default(),
            is_held: false,
            complaint: None,
        }
    }

    /// Takes a look, or notes why there is none.
    fn look(&mut self, status: anyhow::Result<serde_json::Value>) {
        match status {
            Ok(status) => {
                self.model.take(status);
                self.complaint = None;
            }
            Err(error) => self.complaint = Some(format!("{error:#}")),
        }
    }

    fn on_key(&mut self, key: KeyCode, modifiers: KeyModifiers) -> Next {
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Next::Leave,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Next::Leave,
            KeyCode::Char('1') => self.turn_to(Table::Sessions),
            KeyCode::Char('2') => self.turn_to(Table::Pools),
            KeyCode::Char('3') => self.turn_to(Table::Tenants),
            KeyCode::Tab => self.turn_to(match self.table {
                Table::Sessions => Table::Pools,
                Table::Pools => Table::Tenants,
                Table::Tenants => Table::Sessions,
            }),
            KeyCode::Char('s') => {
                let next = self.sort.map_or(0, |column| column + 1);
                self.sort = (next < self.table.columns().len()).then_some(next);
            }
            KeyCode::Char(' ') => self.is_held = !self.is_held,
            KeyCode::Down => self.rows.scroll_down_by(1),
            KeyCode::Up => self.rows.scroll_up_by(1),
            KeyCode::PageDown => self.rows.scroll_down_by(20),
            KeyCode::PageUp => self.rows.scroll_up_by(20),
            KeyCode::Home => self.rows.select_first(),
            _ => {}
        }
        Next::Draw
    }

    fn turn_to(&mut self, table: Table) {
        (self.table, self.sort, self.rows) = (table, None, TableState::default());
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let summary = self.model.summary();
        let height = u16::try_from(summary.len()).unwrap_or(3);
        let areas = Layout::vertical([
            Constraint::Length(height),
            Constraint::Length(1),
            Constraint::Length(1),
            Constraint::Min(3),
            Constraint::Length(1),
        ]);
        let [above, _, tabs, below, foot] = areas.areas(frame.area());
        let mut lines: Vec<Line<'_>> = summary.into_iter().map(Line::from).collect();
        if let Some(first) = lines.first_mut() {
            *first = first.clone().bold();
        }
        frame.render_widget(Text::from(lines), above);
        let chosen = Table::ALL.iter().position(|table| *table == self.table).unwrap_or_default();
        let titles = Table::ALL.iter().zip(1..).map(|(table, number)| format!("{number} {}", table.title()));
        frame.render_widget(Tabs::new(titles).select(chosen).highlight_style(Style::new().reversed()), tabs);
        let rows = self.model.rows(self.table, self.sort);
        let grid = grid(self.table, self.sort, rows);
        frame.render_stateful_widget(grid, below, &mut self.rows);
        let foot_text = match &self.complaint {
            Some(complaint) => Line::from(complaint.as_str()).fg(Color::Red).bold(),
            None if self.is_held => Line::from("held; space goes on").fg(Color::Yellow),
            None => Line::from("Tab: another table   s: sort   arrows: scroll   space: hold   q: leave").dim(),
        };
        frame.render_widget(foot_text, foot);
    }
}

fn grid(table: Table, sort: Option<usize>, rows: Vec<Vec<String>>) -> Grid<'static> {
    let columns = table.columns();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let widest = cells.chain(columns.get(column).map(|name| name.len() + 1)).max().unwrap_or_default();
        Constraint::Length(u16::try_from(widest.min(40)).unwrap_or(40))
    };
    let widths: Vec<_> = (0..columns.len()).map(width).collect();
    let header = columns.iter().enumerate().map(|(column, name)| {
        let mark = if sort == Some(column) { "*" } else { "" };
        Cell::from(format!("{name}{mark}"))
    });
    let rows = rows.into_iter().map(|row| {
        let is_trouble = row.iter().any(|cell| cell == "failing");
        let style = if is_trouble { Style::new().fg(Color::Red) } else { Style::new() };
        Row::new(row.into_iter().map(Cell::from)).style(style)
    });
    Grid::new(rows, widths)
        .header(Row::new(header).style(Style::new().bold().underlined()))
        .row_highlight_style(Style::new().reversed())
        .column_spacing(2)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn drawn(view: &mut View, width: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, 12)).expect("a terminal");
        terminal.draw(|frame| view.draw(frame)).expect("drawn");
        terminal.backend().to_string()
    }

    fn view() -> View {
        let mut view = View::new();
        view.look(Ok(json!({
            "version": "0.1.0", "started": "x", "uptime": 5.0, "state": "running",
            "pools": [{ "database": "shop", "role": "app_user", "is_failing": true }],
            "sessions": { "shown": [{ "session": 7, "tenant": "acme", "state": "idle", "age": 1.0 }] }
        })));
        view
    }

    #[test]
    fn keys_turn_to_each_table_sort_it_hold_it_and_leave() {
        let mut view = view();
        let none = KeyModifiers::NONE;
        assert!(drawn(&mut view, 120).contains("acme"));
        assert_eq!(view.on_key(KeyCode::Tab, none), Next::Draw);
        assert!(drawn(&mut view, 120).contains("failing"));
        view.on_key(KeyCode::Char('s'), none);
        assert!(drawn(&mut view, 120).contains("database*"));
        view.on_key(KeyCode::Char('1'), none);
        assert!(!drawn(&mut view, 120).contains("database*"), "each table has its own order");
        view.on_key(KeyCode::Char(' '), none);
        assert!(drawn(&mut view, 120).contains("held"));
        assert_eq!(view.on_key(KeyCode::Char('q'), none), Next::Leave);
        assert_eq!(view.on_key(KeyCode::Char('c'), KeyModifiers::CONTROL), Next::Leave);
    }

    #[test]
    fn a_proxy_that_no_longer_answers_is_told_of_and_what_was_seen_stays() {
        let mut view = view();
        view.look(Err(anyhow::anyhow!("the proxy does not answer at http://x")));
        let text = drawn(&mut view, 120);
        assert!(text.contains("does not answer") && text.contains("acme"), "{text}");
        drawn(&mut view, 20);
    }
}
