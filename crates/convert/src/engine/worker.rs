//! What one worker does, again and again.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::fold::{Bytes, Item, Task};
use super::pages::PAGE_BYTES;
use super::{Shared, panic_text};
use crate::buffer::Buffer;
use crate::error::{Place, Stage};
use crate::read::ns;
use crate::units::Work;
use crate::work::{Finished, Workshop};
use crate::{ConvertError, Piece};

/// What a claim gave.
enum Claim {
    Work(u64, Work),
    /// The budget is used up.
    NoBytes,
    /// Nothing is left to claim.
    Exhausted,
}

/// Runs until nothing is left to do, or something failed.
pub(super) fn work(shared: &Shared<'_>, mut shop: Workshop<'_>) {
    loop {
        if shared.stop.load(Ordering::Relaxed) {
            shared.fail(ConvertError::Stopped);
        }
        if shared.is_over() {
            break;
        }
        // Read before looking for work: what happens meanwhile ends the sleep at once.
        let seen = shared.budget.events();
        let mut guest = None;
        let step = catch_unwind(AssertUnwindSafe(|| step(shared, &mut shop, &mut guest)));
        match step {
            Ok(Ok(Step::Did)) => {}
            Ok(Ok(Step::Wait)) => {
                let started = Instant::now();
                shared.budget.sleep(seen);
                shared.wait_ns.fetch_add(ns(started), Ordering::Relaxed);
            }
            Ok(Ok(Step::Done)) => break,
            Ok(Err(error)) => shared.fail(error),
            Err(payload) => {
                let place = Place { stage: Stage::Encode, guest, host: None };
                shared.fail(ConvertError::Panic { place, detail: panic_text(&*payload) });
            }
        }
    }
    let mut tally = shop.tally;
    tally.read_ns += shop.reader.read_ns;
    tally.decode_ns += shop.reader.decode_ns;
    tally.bytes_read += shop.reader.bytes;
    shared.tallies.lock().unwrap_or_else(PoisonError::into_inner).push(tally);
}

enum Step {
    Did,
    Wait,
    Done,
}

fn step(
    shared: &Shared<'_>,
    shop: &mut Workshop<'_>,
    guest: &mut Option<Range<u64>>,
) -> Result<Step, ConvertError> {
    let task = shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    if let Some(task) = task {
        perform(shared, task)?;
        done(shared);
        return Ok(Step::Did);
    }
    match claim(shared)? {
        Claim::Work(number, Work::Zeroes(range)) => {
            deliver(shared, number, Item::Zeroes(range))?;
            Ok(Step::Did)
        }
        Claim::Work(number, Work::Unit { range, pieces, filled }) => {
            *guest = Some(range.clone());
            let finished = run_unit(shared, shop, &range, &pieces, filled)?;
            deliver(shared, number, Item::Unit(finished))?;
            Ok(Step::Did)
        }
        Claim::NoBytes => {
            shared.stalls.fetch_add(1, Ordering::Relaxed);
            Ok(Step::Wait)
        }
        Claim::Exhausted if shared.outstanding.load(Ordering::Acquire) == 0 => Ok(Step::Done),
        Claim::Exhausted => Ok(Step::Wait),
    }
}

fn claim(shared: &Shared<'_>) -> Result<Claim, ConvertError> {
    if shared.is_exhausted.load(Ordering::Acquire) {
        return Ok(Claim::Exhausted);
    }
    let mut claims = shared.claims.lock().unwrap_or_else(PoisonError::into_inner);
    if !shared.budget.try_take(shared.charge) {
        // With nothing under way nothing would be given back: what is held is a page that waits for this unit, or
        // belongs to other conversions.
        if shared.outstanding.load(Ordering::Acquire) > 0 {
            return Ok(Claim::NoBytes);
        }
        shared.budget.take(shared.charge);
    }
    let started = Instant::now();
    let next = claims.feed.next(&shared.pool);
    shared.map_ns.fetch_add(ns(started), Ordering::Relaxed);
    let work = match next {
        Ok(Some(work)) => work,
        other => {
            shared.is_exhausted.store(true, Ordering::Release);
            drop(claims);
            shared.budget.give(shared.charge);
            return other.map(|_| Claim::Exhausted);
        }
    };
    let number = claims.number;
    claims.number += 1;
    shared.outstanding.fetch_add(1, Ordering::AcqRel);
    if matches!(work, Work::Zeroes(_)) {
        drop(claims);
        shared.budget.give(shared.charge);
    } else {
        claims.claimed += 1;
    }
    Ok(Claim::Work(number, work))
}

fn run_unit(
    shared: &Shared<'_>,
    shop: &mut Workshop<'_>,
    range: &Range<u64>,
    pieces: &[Piece],
    filled: Option<Buffer>,
) -> Result<Finished, ConvertError> {
    let mapped = pieces.iter().filter(|piece| !piece.reads_zero()).map(|piece| piece.len).sum();
    let mut finished = Finished {
        base: range.start,
        data: Some(filled.unwrap_or_else(|| shared.pool.take())),
        mapped,
        charge: shared.charge,
        ..Finished::default()
    };
    shop.run(range, pieces, &mut finished)?;
    Ok(finished)
}

/// Hands a finished item to the fold, and queues the writes that it decides on.
fn deliver(shared: &Shared<'_>, number: u64, item: Item) -> Result<(), ConvertError> {
    let mut tasks = Vec::new();
    let mut fold = shared.fold.lock().unwrap_or_else(PoisonError::into_inner);
    fold.deliver(number, item, &shared.budget, &mut tasks)?;
    drop(fold);
    if tasks.is_empty() {
        return Ok(());
    }
    // Items became tasks one to one; pages that are complete come on top.
    let pages = tasks.iter().filter(|task| task.page.is_some()).count();
    shared.outstanding.fetch_add(pages as u64, Ordering::AcqRel);
    shared.tasks.lock().unwrap_or_else(PoisonError::into_inner).extend(tasks);
    shared.budget.wake();
    Ok(())
}

/// One item or page less is outstanding.
fn done(shared: &Shared<'_>) {
    if shared.outstanding.fetch_sub(1, Ordering::AcqRel) == 1 {
        shared.budget.wake();
    }
}

/// Writes what a task says, and gives its bytes back.
pub(super) fn perform(shared: &Shared<'_>, task: Task) -> Result<(), ConvertError> {
    let Task { data, encoded, charge, writes, tables, zeroes, pages, page } = task;
    if let Some(sink) = shared.sink {
        let started = Instant::now();
        let slice = |part: &Bytes| match part {
            Bytes::Data(range) => {
                data.as_ref().and_then(|data| data.bytes().get(range.clone())).unwrap_or_default()
            }
            Bytes::Encoded(range) => encoded.get(range.clone()).unwrap_or_default(),
        };
        if let Some((offset, buffer)) = page {
            write_page(shared, offset, buffer)?;
        } else if pages.is_empty() {
            for (offset, parts) in &writes {
                let slices: Vec<&[u8]> = parts.iter().map(slice).collect();
                sink.write(*offset, &slices)?;
            }
            for (offset, bytes) in &tables {
                sink.write(*offset, &[bytes])?;
            }
        } else {
            let mut pages = pages.iter();
            for (offset, parts) in &writes {
                let Some(touched) = pages.next() else { break };
                // Packed writes are single payloads or runs of clusters; only runs have several parts.
                let joined;
                let bytes = match parts.as_slice() {
                    [one] => slice(one),
                    several => {
                        joined = several.iter().map(slice).collect::<Vec<_>>().concat();
                        &joined
                    }
                };
                copy_to(shared, touched, *offset, bytes)?;
            }
            for (offset, bytes) in &tables {
                let Some(touched) = pages.next() else { break };
                copy_to(shared, touched, *offset, bytes)?;
            }
        }
        for range in zeroes {
            let written = sink.zero(range)?;
            if written > 0 {
                shared.budget.give(written * PAGE_BYTES);
            }
        }
        shared.write_ns.fetch_add(ns(started), Ordering::Relaxed);
    }
    if let Some(data) = data {
        shared.pool.put(data);
    }
    if charge > 0 {
        shared.budget.give(charge);
    }
    Ok(())
}

fn copy_to(
    shared: &Shared<'_>,
    touched: &[std::sync::Arc<super::pages::Page>],
    offset: u64,
    bytes: &[u8],
) -> Result<(), ConvertError> {
    for page in touched {
        if let Some(buffer) = page.copy(offset, bytes) {
            write_page(shared, page.offset, buffer)?;
        }
    }
    Ok(())
}

fn write_page(shared: &Shared<'_>, offset: u64, buffer: Buffer) -> Result<(), ConvertError> {
    let written = match shared.sink {
        Some(sink) => sink.write_page(offset, buffer)?,
        None => 1,
    };
    // A sink that writes in order may keep this page for later, or write others with it.
    if written > 0 {
        shared.budget.give(written * PAGE_BYTES);
    }
    Ok(())
}
