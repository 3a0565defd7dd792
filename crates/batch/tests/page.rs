//! The page of a report in a real browser: what it shows after its script ran, and what it does not let happen.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::Path;
use std::process::Command;

use coldfit_batch::page::Page;
use coldfit_batch::{Action, DiskMap, Identity, Line, MapVolume, ShardOf, Shares};
use report::{Class, Diagnostic};

/// Debian's package chromium-headless-shell (scripts/setup.sh installs it).
const BROWSER: &str = "chromium-headless-shell";

struct Seen {
    dom: String,
    /// What the browser's console said.
    log: String,
}

/// Opens a page and gives the document after its script ran.
fn browse(page: &Path, fragment: &str) -> Seen {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(BROWSER)
        .args(["--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{fragment}", page.display()))
        .output()
        .unwrap_or_else(|error| panic!("{BROWSER}: {error} (Debian package chromium-headless-shell)"));
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {log}", output.status);
    Seen { dom: String::from_utf8(output.stdout).unwrap(), log }
}

impl Seen {
    /// Rows of the table: (start tag, rest of the row).
    fn rows(&self) -> Vec<(&str, &str)> {
        let (_, body) = self
            .dom
            .split_once("<tbody>")
            .and_then(|(_, rest)| rest.split_once("<tbody>"))
            .unwrap_or(("", ""));
        let body = if body.is_empty() { self.dom.rsplit_once("<tbody>").unwrap().1 } else { body };
        let body = body.rsplit_once("<tbody>").map_or(body, |(_, last)| last);
        body.split("<tr ").skip(1).map(|row| row.split_once('>').unwrap()).collect()
    }

    fn shown(&self) -> Vec<&str> {
        self.rows().into_iter().filter(|(tag, _)| !tag.contains("hidden")).map(|(_, row)| row).collect()
    }

    fn count(&self) -> &str {
        let (_, rest) = self.dom.split_once("id=\"shown\"").unwrap();
        rest.split_once('>').unwrap().1.split_once('<').unwrap().0
    }

    fn title(&self) -> &str {
        self.dom.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0
    }
}

fn write(page: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".html").tempfile().unwrap();
    std::fs::write(file.path(), page).unwrap();
    file
}

fn line(index: usize) -> Line {
    let mut line = Line::new("0.1.0", &format!("/srv/images/web-{index:05}.qcow2"), Action::Fix, "d");
    line.profile = Some("alibaba".into());
    line.profile_digest = Some("0123456789abcdef".into());
    line.started_at = 1_790_000_000.0 + index as f64 * 0.4;
    line.seconds = 0.5 + (index * 7919 % 100) as f64 / 20.0;
    line.timings = [("open".to_owned(), 0.1), ("inspect".to_owned(), 0.3)].into();
    let allocated = ((index * 104_729 % 1000) as u64 + 1) << 20;
    let modified = "1.000000000".to_owned();
    line.source = Some(Identity { bytes: allocated, allocated, modified, inode: index as u64 });
    for (rule, state) in
        [("drivers.initramfs", "fixed"), ("root.by-uuid", "holds"), ("ssh.key-only", "waived")]
    {
        line.rules.insert(rule.into(), state.into());
    }
    line.boot =
        [("nvme".to_owned(), "boots".to_owned()), ("ide".to_owned(), "does-not-boot".to_owned())].into();
    let disk = 8u64 << 30;
    let mut data = Shares::new(disk, 96);
    data.add(1 << 20..allocated * 4);
    let volume = |name: &str, start: u64, bytes: u64, content: &str, free| MapVolume {
        name: name.into(),
        start,
        bytes,
        content: Some(content.into()),
        mounted_at: None,
        free_bytes: free,
    };
    let volumes = vec![
        volume("partition 1", 1 << 20, 1 << 30, "swap", None),
        volume("partition 2", (1 << 30) + (1 << 20), disk - (2 << 30), "ext4", Some(3 << 30)),
    ];
    let mut map = DiskMap::new(&data, volumes);
    map.mark_changed(&[2 << 30..(2 << 30) + (39 << 20), 5 << 30..(5 << 30) + (1 << 20)]);
    line.disk = Some(map);
    line.bytes.insert("written".into(), 40 << 20);
    if index % 9 == 4 {
        line.rules.insert("drivers.initramfs".into(), "not-fixable".into());
        line.fall_short(vec!["drivers.initramfs".into()]);
    }
    if index % 50 == 7 {
        line.disk = None;
        line.rules.clear();
        line.boot.clear();
        line.fail(&Diagnostic {
            code: "qcow2.feature.unknown",
            class: Class::Unsupported,
            message: "incompatible feature bit 17".into(),
            hint: Some("Convert it with the program that made it.".into()),
        });
    }
    line
}

fn page_of(lines: impl IntoIterator<Item = Line>) -> String {
    let mut page = Page::new("nightly <run>", |seconds| format!("@{seconds}"));
    lines.into_iter().for_each(|line| page.add(line).unwrap());
    page.html()
}

#[test]
fn filter_and_sorting_work_and_the_policy_lets_only_the_pages_own_script_run() {
    let page = page_of((0..200).map(line));
    let file = write(&page);
    let plain = browse(file.path(), "");
    assert_eq!(plain.count(), "200 of 200 images");
    assert_eq!(plain.shown().len(), 200);
    assert!(plain.shown()[0].contains("qcow2.feature.unknown"), "the worst come first");
    assert!(!plain.log.contains("Content Security Policy"), "{}", plain.log);
    // The script turned headings into buttons and showed the controls.
    assert!(plain.dom.contains("<button type=\"button\">Time</button>"));
    assert!(!plain.dom.contains("id=\"controls\" hidden"));

    let one = browse(file.path(), "filter=WEB-00107");
    assert_eq!(one.count(), "1 of 200 images");
    assert!(one.shown()[0].contains("<b>web-00107.qcow2</b>"));
    let failed = browse(file.path(), "filter=unsupported%20bit%20-web-00007");
    assert_eq!(failed.count(), "3 of 200 images");
    let unmet = browse(file.path(), "result=unmet&filter=drivers.initramfs&sort=-size");
    let sizes: Vec<u64> = unmet
        .shown()
        .iter()
        .map(|row| {
            let (_, cell) = row.split_once("data-label=\"On the host\" data-value=\"").unwrap();
            cell.split_once('"').unwrap().0.parse().unwrap()
        })
        .collect();
    assert_eq!(sizes.len(), (0..200).filter(|index| index % 9 == 4 && index % 50 != 7).count());
    assert!(sizes.is_sorted_by(|one, other| one >= other), "{sizes:?}");
    assert!(unmet.dom.contains("aria-sort=\"descending\""));

    // What would get into the page in spite of the escaping does not run.
    let foreign = "<script>document.title='pwned'</script><img src=\"x\" onerror=\"document.title='pwned'\"><p style=\"position:fixed\">x</p></main>";
    let injected = write(&page.replacen("</main>", foreign, 1));
    let injected = browse(injected.path(), "");
    assert_eq!(injected.title(), "nightly &lt;run&gt;");
    assert!(injected.log.matches("Content Security Policy").count() >= 3, "{}", injected.log);
}

#[test]
fn hostile_names_stay_text() {
    const HOSTILE: [&str; 5] = [
        "</td><script>document.title='pwned'</script>",
        "\"><img src=x onerror=\"document.title='pwned'\">",
        "' onmouseover='x",
        "</title></svg></style></textarea><!--",
        "\u{202e}2wocq.\u{1b}[31m\u{0}",
    ];
    let lines = HOSTILE.iter().enumerate().map(|(index, hostile)| {
        let mut line = line(index);
        let text = || (*hostile).to_owned();
        line.image = format!("/srv/{hostile}");
        line.coldfit = text();
        line.profile = Some(text());
        line.profile_digest = Some(text());
        line.shard = Some(ShardOf { index: 1, count: 2, plan: text() });
        line.rules.insert(text(), "not-fixable".into());
        line.timings.insert(text(), 1.0);
        line.boot.insert(text(), "boots".into());
        line.fall_short(vec![text()]);
        (line.code, line.message, line.hint) = (text(), Some(text()), Some(text()));
        line.class = Some(text());
        if let Some(map) = &mut line.disk {
            map.volumes[0].name = text();
            map.volumes[0].content = Some(text());
            map.data = text();
            (map.volumes[1].start, map.volumes[1].bytes, map.volumes[1].free_bytes) =
                (u64::MAX, u64::MAX, Some(u64::MAX));
        }
        line.seconds = [f64::NAN, f64::INFINITY, -1.0, 1e300, 0.0][index];
        line.started_at = [f64::NAN, f64::NEG_INFINITY, -1e300, 1e300, 0.0][index];
        line
    });
    let page = page_of(lines);
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}') && !page.contains('\0'));
    let file = write(&page);
    let seen = browse(file.path(), "filter=srv");
    assert_eq!(seen.title(), "nightly &lt;run&gt;");
    assert_eq!(seen.count(), "5 of 5 images");
    assert_eq!(seen.dom.matches("<script").count(), 1);
    assert!(!seen.dom.contains("<img") && !seen.dom.contains("onmouseover=\""));
    assert!(!seen.log.contains("Content Security Policy"), "{}", seen.log);
    // As text it is there.
    assert!(seen.dom.contains("&lt;script&gt;document.title="));
}

#[test]
fn ten_thousand_images_make_a_page_that_still_filters() {
    let page = page_of((0..10_000).map(line));
    assert!(page.len() < 32 << 20, "{} bytes", page.len());
    assert_eq!(page.matches("<circle").count(), 2000, "the time plot takes a sample");
    let file = write(&page);
    let seen = browse(file.path(), "filter=web-0999");
    assert_eq!(seen.count(), "10 of 10000 images");
}

#[test]
fn without_its_script_everything_is_there() {
    let page = page_of((0..40).map(line));
    let bare = write(page.split("<script>").next().unwrap());
    let seen = browse(bare.path(), "filter=nothing");
    assert_eq!(seen.shown().len(), 40);
    assert_eq!(seen.count(), "40 images");
    assert!(seen.dom.contains("id=\"controls\" hidden"));
    assert_eq!(seen.dom.matches("<svg class=\"disk\"").count(), 39);
    // Every drawing has words, every input a label.
    assert!(seen.dom.contains("<title>8.0 GiB disk, "));
    for drawing in seen.dom.split("<svg").skip(1) {
        let tag = drawing.split_once('>').unwrap();
        assert!(
            tag.0.contains("aria-hidden") || (tag.0.contains("role=\"img\"") && tag.1.starts_with("<title>")),
            "{drawing:.200}"
        );
    }
}

#[test]
fn the_last_line_of_an_image_counts_and_missing_shards_are_named() {
    let mut first = line(7);
    first.shard = Some(ShardOf { index: 1, count: 3, plan: "p".into() });
    let mut again = line(8);
    again.image.clone_from(&first.image);
    again.shard.clone_from(&first.shard);
    let page = page_of([first, again]);
    assert_eq!(page.matches("<tr data-result=").count(), 1);
    assert!(page.contains("data-result=\"done\"") && page.contains("2 of 3 shards have no line here."));
    assert!(page_of([]).contains("0 images"), "an empty report has a page");
}
