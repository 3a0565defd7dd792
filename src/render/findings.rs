//! Findings of rules as text for people.

use anstyle::{AnsiColor, Style};
use cloudspec::Severity;
use fixes::{Finding, State};

use super::output::single_line;

/// How a run names what it does about a finding that an edit meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tense {
    /// Nothing is changed: `coldfit fix` would do it.
    Check,
    /// A dry run.
    Would,
    /// It was done.
    Done,
}

/// Sections in the order in which they are printed.
const SECTIONS: [State; 6] = [
    State::NotFixable,
    State::NeedsAction,
    State::Fixable,
    State::Holds,
    State::Waived,
    State::NotApplicable,
];

/// A table grouped by state; evidence and remedy a line each.
pub fn text(findings: &[Finding], tense: Tense, explain: bool) -> String {
    let mut text = String::new();
    for state in SECTIONS {
        let group: Vec<&Finding> = findings.iter().filter(|finding| finding.state == state).collect();
        if group.is_empty() {
            continue;
        }
        let (title, style) = heading(state, tense);
        text.push_str(&format!("\n{style}{title}{style:#} ({})\n", group.len()));
        for finding in group {
            text.push_str(&one(finding, style, explain));
        }
    }
    text
}

fn heading(state: State, tense: Tense) -> (&'static str, Style) {
    let colour = |colour: AnsiColor| Style::new().bold().fg_color(Some(colour.into()));
    match state {
        State::NotFixable => ("cannot fix", colour(AnsiColor::Red)),
        State::NeedsAction => ("not met, needs you", colour(AnsiColor::Red)),
        State::Fixable => {
            let title = match tense {
                Tense::Check => "not met, coldfit fix does it",
                Tense::Would => "would be fixed",
                Tense::Done => "fixed",
            };
            (title, colour(if tense == Tense::Done { AnsiColor::Green } else { AnsiColor::Yellow }))
        }
        State::Holds => ("holds", colour(AnsiColor::Green)),
        State::Waived => ("waived", Style::new().bold()),
        State::NotApplicable => ("not applicable", Style::new().bold()),
    }
}

fn one(finding: &Finding, style: Style, explain: bool) -> String {
    if finding.state == State::Waived && !explain {
        let because = finding.because.as_deref().unwrap_or("a switch says so");
        return format!("  waived: {} because {because}\n", finding.rule);
    }
    let row = finding.row.as_ref().map(|row| format!(" [{row}]")).unwrap_or_default();
    let severity = match finding.severity {
        Severity::Must => "must",
        Severity::Recommended => "recommended",
        Severity::Optional => "optional",
    };
    let mut text = format!("  {style}{}{style:#}{row} ({severity})  {}\n", finding.rule, finding.summary);
    // What holds needs no proof unless it is asked for.
    let shows_evidence = explain || !matches!(finding.state, State::Holds | State::NotApplicable);
    for line in finding.evidence.iter().filter(|_| shows_evidence) {
        text.push_str(&format!("      {}\n", single_line(line)));
    }
    if let Some(remedy) = &finding.remedy {
        text.push_str(&format!("      remedy: {}\n", single_line(remedy)));
    }
    if explain {
        text.push_str(&format!("      source: {}\n", single_line(&finding.source)));
        if !finding.check_items.is_empty() {
            text.push_str(&format!("      looked at by: {}\n", finding.check_items.join(", ")));
        }
    }
    text
}

/// `1 required rule does not hold` …; `None` when all that must hold do.
pub fn shortfall(findings: &[Finding]) -> Option<String> {
    let unmet: Vec<&str> = required_unmet(findings).map(|finding| finding.rule.as_str()).collect();
    match unmet.len() {
        0 => None,
        1 => Some(format!("1 required rule does not hold: {}", unmet.join(", "))),
        count => Some(format!("{count} required rules do not hold: {}", unmet.join(", "))),
    }
}

/// Findings of rules that must hold and do not.
pub fn required_unmet(findings: &[Finding]) -> impl Iterator<Item = &Finding> {
    findings.iter().filter(|finding| finding.severity == Severity::Must && finding.state.is_unmet())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(rule: &str, severity: Severity, state: State) -> Finding {
        Finding {
            rule: rule.into(),
            severity,
            state,
            summary: "A demand.".into(),
            evidence: vec!["seen".into()],
            remedy: (state == State::NeedsAction).then(|| "Do it.".into()),
            source: "a page (2026-01-01)".into(),
            row: Some("C1".into()),
            check_items: Vec::new(),
            because: (state == State::Waived).then(|| "b".into()),
        }
    }

    #[test]
    fn grouped_by_state_with_evidence_and_remedy() {
        let findings = [
            finding("a", Severity::Must, State::Holds),
            finding("c", Severity::Must, State::NeedsAction),
            finding("w", Severity::Must, State::Waived),
            finding("d", Severity::Recommended, State::Fixable),
        ];
        let plain = anstream::adapter::strip_str(&text(&findings, Tense::Check, false)).to_string();
        let expected = "\nnot met, needs you (1)\n  c [C1] (must)  A demand.\n      seen\n      remedy: Do it.\n\
                        \nnot met, coldfit fix does it (1)\n  d [C1] (recommended)  A demand.\n      seen\n\
                        \nholds (1)\n  a [C1] (must)  A demand.\n\
                        \nwaived (1)\n  waived: w because b\n";
        assert_eq!(plain, expected);
        assert_eq!(shortfall(&findings).as_deref(), Some("1 required rule does not hold: c"));
        assert!(text(&findings, Tense::Check, true).contains("source: a page"));
    }
}
