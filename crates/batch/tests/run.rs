//! The pool, the report file, what resumes and what is planned.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};

use coldfit_batch::{
    Action, BatchError, Claims, Entry, Finished, Identity, Job, Line, Panicked, Pool, RunEnd, Store,
    TargetFile, Template, collect, plan, read_lines, run, shard,
};
use report::{Class, Diagnose, Diagnostic};

fn pooled<T: Send>(
    weights: &[u64],
    lanes: usize,
    keep_going: bool,
    stop: &AtomicBool,
    work: impl Fn(usize, usize) -> T + Sync,
    mut is_failure: impl FnMut(usize, Result<T, Panicked>) -> bool,
) -> RunEnd {
    let (running, waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let pool = Pool { lanes, keep_going, stop, running: &running, waiting: &waiting };
    let end = run(weights, &pool, work, |job, outcome| Ok::<_, Infallible>(is_failure(job, outcome)));
    assert_eq!(running.load(Ordering::Acquire), 0);
    end.unwrap()
}

#[test]
fn the_largest_goes_first_on_one_lane_and_the_small_ones_flow_beside_it() {
    let weights: Vec<u64> = (0..20).map(|index| if index == 13 { 1_000_000 } else { 100 - index }).collect();
    let order = Mutex::new(Vec::new());
    let small = AtomicUsize::new(0);
    let has_begun = AtomicBool::new(false);
    let end = pooled(
        &weights,
        2,
        true,
        &AtomicBool::new(false),
        |job, lane| {
            order.lock().unwrap().push((lane, job));
            if job == 13 {
                has_begun.store(true, Ordering::Release);
                // The large one lasts until all others are done: they do not wait for it.
                while small.load(Ordering::Acquire) < 19 {
                    std::thread::yield_now();
                }
            } else {
                // A lane may start late; what is judged is who takes what.
                while !has_begun.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                small.fetch_add(1, Ordering::AcqRel);
            }
        },
        |_, _| false,
    );
    assert_eq!(end, RunEnd { left: 0 });
    let order = order.into_inner().unwrap();
    let lane = |lane| order.iter().filter(|(of, _)| *of == lane).map(|(_, job)| *job).collect::<Vec<_>>();
    assert_eq!(lane(0), [13], "lane 0 takes the largest");
    let smallest_first: Vec<usize> = (0..20).rev().filter(|job| *job != 13).collect();
    assert_eq!(lane(1), smallest_first);
}

#[test]
fn a_panic_is_one_outcome_and_the_others_go_on() {
    let seen = Mutex::new(Vec::new());
    let end = pooled(
        &[5; 30],
        4,
        true,
        &AtomicBool::new(false),
        |job, _| assert!(job != 17, "job {job} is one too many"),
        |job, outcome| {
            let is_failure = outcome.is_err();
            seen.lock().unwrap().push((job, outcome.err()));
            is_failure
        },
    );
    assert_eq!(end, RunEnd { left: 0 });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.iter().map(|(job, _)| *job).collect::<BTreeSet<_>>(), (0..30).collect());
    let panicked: Vec<_> =
        seen.iter().filter_map(|(job, panicked)| Some((*job, panicked.clone()?))).collect();
    assert_eq!(panicked, [(17, Panicked("job 17 is one too many".into()))]);
}

#[test]
fn without_keep_going_the_first_failure_ends_it_and_a_stop_ends_it_always() {
    let begun = AtomicUsize::new(0);
    let begin = |_, _| begun.fetch_add(1, Ordering::AcqRel);
    let end = pooled(&[1; 50], 1, false, &AtomicBool::new(false), begin, |job, _| job == 47);
    // With one lane the jobs come from the end of the list; the lane may be one ahead of the judge.
    let done = begun.load(Ordering::Acquire);
    assert!(end.left == 50 - done && (3..=4).contains(&done), "{end:?} after {done}");

    let stop = AtomicBool::new(false);
    let both = Barrier::new(2);
    let end = pooled(
        &[1; 50],
        2,
        true,
        &stop,
        |_, _| {
            both.wait();
            stop.store(true, Ordering::Release);
        },
        |_, _| false,
    );
    assert_eq!(end.left, 48, "what ran ends, nothing new begins");
}

fn entry(image: &Path) -> Entry {
    Entry { image: image.to_owned(), ..Entry::default() }
}

fn touched(folder: &Path, name: &str, bytes: usize) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, vec![1; bytes]).unwrap();
    path
}

#[test]
fn a_torn_last_line_is_cut_off_and_anything_else_that_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("REPORT.jsonl");
    let mut store = Store::create(&report).unwrap();
    let line = |image: &str| Line::new("1", image, Action::Check, "d");
    store.append(&line("/a")).unwrap();
    store.append(&line("/b")).unwrap();
    assert_eq!(Store::resume(&report).unwrap_err().code(), "batch.report.in-use");
    drop(store);
    assert_eq!(Store::create(&report).unwrap_err().code(), "batch.report.exists");

    let whole = std::fs::read(&report).unwrap();
    let third = serde_json::to_vec(&line("/c")).unwrap();
    for torn in 1..=third.len() {
        std::fs::write(&report, [&whole[..], &third[..torn]].concat()).unwrap();
        let (mut store, lines) = Store::resume(&report).unwrap();
        assert_eq!(lines.len(), 2);
        store.append(&line("/d")).unwrap();
        let mut images = Vec::new();
        read_lines(&report, &mut |line| {
            images.push(line.image);
            Ok(())
        })
        .unwrap();
        assert_eq!(images, ["/a", "/b", "/d"]);
    }
    // A power cut may leave zeros where the line should be.
    std::fs::write(&report, [&whole[..], &[0; 100]].concat()).unwrap();
    assert_eq!(Store::resume(&report).unwrap().1.len(), 2);
    // The only line may be torn, too.
    for torn in [1, 9, 30] {
        std::fs::write(&report, &third[..torn]).unwrap();
        assert_eq!(Store::resume(&report).unwrap().1.len(), 0);
        assert_eq!(std::fs::metadata(&report).unwrap().len(), 0);
    }
    std::fs::write(&report, [b"{}\n", &whole[..]].concat()).unwrap();
    let error = Store::resume(&report).unwrap_err();
    assert!(matches!(&error, BatchError::ReportLine { line: 1, .. }), "{error}");
    std::fs::write(&report, "no report at all").unwrap();
    assert_eq!(Store::resume(&report).unwrap_err().code(), "batch.report.line");
    assert_eq!(std::fs::read(&report).unwrap(), b"no report at all", "a foreign file is left alone");
}

#[test]
fn only_what_is_finished_and_still_the_same_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let image = touched(dir.path(), "a.raw", 10);
    let target = touched(dir.path(), "out.raw", 20);
    let mut done = Line::new("1.0", image.to_str().unwrap(), Action::Fix, "digest");
    done.source = Identity::of(&image).ok();
    done.target = Some(TargetFile { path: target.clone(), identity: Identity::of(&target).unwrap() });
    let found = |line: &Line, digest: &str, version: &str| {
        let lines = [line.clone()];
        Finished::new(&lines).find(&image, digest, version).is_some()
    };
    assert!(found(&done, "digest", "1.0"));
    assert!(!found(&done, "other", "1.0"), "something else is asked for");
    assert!(!found(&done, "digest", "1.1"), "another version");

    let failed = |class: Class| {
        let mut line = done.clone();
        line.fail(&Diagnostic { code: "x", class, message: String::new(), hint: None });
        line
    };
    for (class, is_final) in [
        (Class::Damaged, true),
        (Class::Unsupported, true),
        (Class::NoSpace, true),
        (Class::Environment, false),
        (Class::Bug, false),
        (Class::Usage, false),
    ] {
        assert_eq!(found(&failed(class), "digest", "1.0"), is_final, "{class:?}");
    }
    let lines = [failed(Class::Environment), done.clone()];
    assert!(Finished::new(&lines).find(&image, "digest", "1.0").is_some(), "the last line counts");
    let lines = [done.clone(), failed(Class::Environment)];
    assert!(Finished::new(&lines).find(&image, "digest", "1.0").is_none(), "the last line counts");

    // Changed in place by us: the image as it was left counts.
    let mut in_place = done.clone();
    in_place.target = None;
    in_place.source_after = in_place.source.take();
    assert!(found(&in_place, "digest", "1.0"));
    let lines = [done.clone()];
    assert!(Finished::new(&lines).made(&target) && !Finished::new(&lines).made(&image));
    std::fs::write(&target, "changed by somebody").unwrap();
    assert!(!found(&done, "digest", "1.0") && !Finished::new(&lines).made(&target));
    std::fs::remove_file(&target).unwrap();
    assert!(!found(&done, "digest", "1.0"), "its result is gone");
    std::fs::write(&image, "another disk").unwrap();
    assert!(!found(&in_place, "digest", "1.0"));
}

#[test]
fn claims_outlive_a_kill_and_not_an_orderly_end() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("r.jsonl");
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let mut claims = Claims::open(&report).unwrap();
    claims.claim(&ours).unwrap();
    assert!(!claims.was_claimed(&ours), "a claim of this run is no leftover");
    drop(claims);
    let mut torn = std::fs::File::options().append(true).open(dir.path().join("r.jsonl.claims")).unwrap();
    torn.write_all(b"\"/half").unwrap();
    let claims = Claims::open(&report).unwrap();
    assert!(claims.was_claimed(&ours) && !claims.was_claimed(&theirs));
    claims.close().unwrap();
    assert!(!Claims::open(&report).unwrap().was_claimed(&ours));
}

#[test]
fn manifests_folders_patterns_and_images_become_jobs() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["b.qcow2", "a.raw", "notes.txt", ".hidden.raw", "c.vmdk"] {
        touched(dir.path(), name, 1);
    }
    std::fs::create_dir(dir.path().join("below.raw")).unwrap();
    touched(dir.path(), "jobs.jsonl", 0);
    std::fs::write(
        dir.path().join("jobs.jsonl"),
        "{\"image\":\"b.qcow2\",\"do\":\"fix\",\"set\":{\"b\":\"2\"}}\n",
    )
    .unwrap();
    let names = |argument: &Path| -> Vec<String> {
        let (entries, _) = collect(&[argument.to_owned()], &mut std::io::empty()).unwrap();
        let name = |entry: &Entry| entry.image.file_name().unwrap().to_str().unwrap().to_owned();
        entries.iter().map(|(entry, _)| name(entry)).collect()
    };
    // A hidden name is hidden from a pattern; a folder gives all images in it, in the order of their names.
    assert_eq!(names(dir.path()), [".hidden.raw", "a.raw", "b.qcow2", "c.vmdk"]);
    assert_eq!(names(&dir.path().join("*.raw")), ["a.raw"]);
    assert_eq!(names(&dir.path().join("[bc].*")), ["b.qcow2", "c.vmdk"]);
    assert_eq!(names(&dir.path().join("jobs.jsonl")), ["b.qcow2"]);
    assert_eq!(names(&dir.path().join("gone.raw")), ["gone.raw"], "that it is not there is an outcome");
    let none = collect(&[dir.path().join("*.img")], &mut std::io::empty()).unwrap_err();
    assert_eq!(none.code(), "batch.no-image");
    let (piped, _) = collect(&["-".into()], &mut &b"{\"image\":\"/x\"}"[..]).unwrap();
    assert_eq!((piped[0].0.image.as_path(), piped[0].1.as_str()), (Path::new("/x"), "standard input:1"));

    let common = Entry {
        action: Some(Action::Check),
        profile: Some("kvm".into()),
        set: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "1".to_owned())].into(),
        ..Entry::default()
    };
    let (entries, inputs) = collect(&[dir.path().join("jobs.jsonl")], &mut std::io::empty()).unwrap();
    let template = Template::parse("{stem}.{ext}").unwrap();
    let out = dir.path().join("out");
    let jobs = plan(entries.clone(), &inputs, &common, Some((&out, &template))).unwrap();
    assert_eq!((jobs[0].action, jobs[0].entry.profile.as_deref()), (Action::Fix, Some("kvm")));
    assert_eq!(jobs[0].entry.set.iter().map(|(k, v)| format!("{k}{v}")).collect::<Vec<_>>(), ["a1", "b2"]);
    assert_eq!(jobs[0].entry.output.as_deref(), Some(out.join("b.qcow2").as_path()));
    let code = |entries: Vec<(Entry, String)>, common: &Entry, naming| {
        plan(entries, &inputs, common, naming).unwrap_err().code()
    };
    assert_eq!(code(entries, &Entry::default(), None), "batch.job", "no profile");
    let bare = || vec![(entry(&dir.path().join("a.raw")), "x".to_owned())];
    assert_eq!(
        code(bare(), &Entry { profile: Some("kvm".into()), ..Entry::default() }, None),
        "batch.job",
        "nothing to do"
    );
    let convert = Entry { action: Some(Action::Convert), ..Entry::default() };
    assert_eq!(code(bare(), &convert, None), "batch.job", "no place for the result");
}

#[test]
fn what_one_job_writes_no_other_touches() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (touched(dir.path(), "one.raw", 1), touched(dir.path(), "two.raw", 1));
    let link = dir.path().join("link.raw");
    std::os::unix::fs::symlink(&one, &link).unwrap();
    let out = dir.path().join("out.raw");
    let job = |image: &Path, action, output: Option<&Path>| {
        let output = output.map(Path::to_owned);
        (
            Entry { action: Some(action), profile: Some("kvm".into()), output, ..entry(image) },
            "m:1".to_owned(),
        )
    };
    let planned = |entries| plan(entries, &[], &Entry::default(), None).map(|jobs| jobs.len());
    let code = |entries| planned(entries).unwrap_err().code();
    use Action::{Check, Convert, Fix};
    assert_eq!(code(vec![job(&one, Fix, None), job(&link, Fix, None)]), "batch.collision");
    assert_eq!(code(vec![job(&one, Check, None), job(&link, Fix, None)]), "batch.collision");
    assert_eq!(code(vec![job(&one, Convert, Some(&out)), job(&two, Convert, Some(&out))]), "batch.collision");
    assert_eq!(code(vec![job(&one, Convert, Some(&two)), job(&two, Check, None)]), "batch.collision");
    assert_eq!(code(vec![job(&one, Convert, Some(&one))]), "batch.collision");
    assert_eq!(
        planned(vec![job(&one, Check, None), job(&one, Convert, Some(&out)), job(&two, Fix, None)]).unwrap(),
        3
    );

    // A result among the images would be an image of the next run.
    for argument in [dir.path().to_owned(), dir.path().join("*.raw")] {
        let (entries, inputs) = collect(&[argument], &mut std::io::empty()).unwrap();
        let entries: Vec<_> = entries.into_iter().take(1).collect();
        let template = Template::parse("{stem}-fixed.{ext}").unwrap();
        let common = Entry { action: Some(Fix), profile: Some("kvm".into()), ..Entry::default() };
        let error = plan(entries, &inputs, &common, Some((dir.path(), &template))).unwrap_err();
        assert_eq!(error.code(), "batch.output.among-inputs");
    }
}

#[test]
fn shards_of_fixes_in_place_need_sizes_that_do_not_change() {
    let dir = tempfile::tempdir().unwrap();
    let image = touched(dir.path(), "a.raw", 1);
    let jobs = |allocated| -> Vec<Job> {
        let entry =
            Entry { action: Some(Action::Fix), profile: Some("kvm".into()), allocated, ..entry(&image) };
        plan(vec![(entry, "m:1".into())], &[], &Entry::default(), None).unwrap()
    };
    assert_eq!(shard(&jobs(None), 2).unwrap_err().code(), "batch.shard.unstable");
    assert!(shard(&jobs(None), 1).is_ok());
    let (one, other) = (shard(&jobs(Some(5)), 2).unwrap(), shard(&jobs(Some(6)), 2).unwrap());
    assert_ne!(one.plan, other.plan, "another list is another plan");
}
