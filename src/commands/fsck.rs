//! `coldfit fsck` and `coldfit dump`.

use std::path::Path;

use block::Access;
use ext4::CheckReport;
use report::Diagnostic;
use serde::Serialize;
use serde_json::json;
use stack::{Image, Layer, VolumeDevice};

use super::CommandResult;
use crate::cli::args::ImageArgs;
use crate::render::output::{AtImage, Failure, Output, single_line};
use crate::render::progress::Bar;
use crate::session;

/// One problem of one layer.
#[derive(Debug, Serialize)]
struct Problem {
    code: String,
    message: String,
}

/// Problems of one layer.
#[derive(Debug, Serialize)]
struct LayerCheck {
    layer: String,
    checked: String,
    problems: Vec<Problem>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

/// Checks every layer; exit code 1 when a layer contradicts itself.
pub fn fsck(path: &Path, args: &ImageArgs, output: &Output) -> CommandResult {
    let progress = Bar::new(output.quiet);
    let image = Image::open(path, &session::options(args, Access::Read), &progress).at_image(path)?;
    let mut layers = Vec::new();
    if let Some(qcow2) = image.qcow2() {
        let report = qcow2.check().at_image(path)?;
        let mut problems: Vec<Problem> = report
            .problems
            .iter()
            .map(|text| Problem { code: "qcow2.check".into(), message: text.clone() })
            .collect();
        if problems.is_empty() && !report.is_clean() {
            let message = format!("{} corruptions, {} leaked clusters", report.corruptions, report.leaks);
            problems.push(Problem { code: "qcow2.check".into(), message });
        }
        layers.push(LayerCheck {
            layer: "qcow2".into(),
            checked: "reference counts and tables".into(),
            problems,
            notes: Vec::new(),
        });
    }
    if let Some(vhd) = image.vhd() {
        let report = vhd.check().at_image(path)?;
        let problem = |text: &String| Problem { code: "vhd.check".into(), message: text.clone() };
        layers.push(LayerCheck {
            layer: "vhd".into(),
            checked: "footers and block allocation table".into(),
            problems: report.problems.iter().map(problem).collect(),
            notes: Vec::new(),
        });
    }
    for layer in image.layers() {
        match layer {
            Layer::PartitionTable(table) => {
                let problem = |finding: &stack::FindingFacts| Problem {
                    code: finding.code.into(),
                    message: finding.detail.clone(),
                };
                let problems = table.findings.iter().map(problem).collect();
                let checked = format!("{} partition table", table.kind);
                layers.push(LayerCheck { layer: "partitions".into(), checked, problems, notes: Vec::new() });
            }
            Layer::Volume(volume) => {
                if let Some(Diagnostic { code, message, .. }) = volume.problem {
                    let problems = vec![Problem { code: code.into(), message }];
                    layers.push(LayerCheck {
                        layer: volume.name,
                        checked: "not possible".into(),
                        problems,
                        notes: Vec::new(),
                    });
                }
            }
            Layer::Image(_) | Layer::VolumeGroup(_) | Layer::Mounts(_) => {}
        }
    }
    for volume in image.filesystems() {
        layers.extend(check_volume(&volume, path)?);
    }
    drop(progress);
    let is_clean = layers.iter().all(|layer| layer.problems.is_empty());
    output.either(&json!({ "clean": is_clean, "layers": layers }), |_| {
        let mut text = String::new();
        for layer in &layers {
            let state = if layer.problems.is_empty() { "clean" } else { "damaged" };
            text.push_str(&format!("{}: {}: {state}\n", layer.layer, layer.checked));
            for problem in &layer.problems {
                text.push_str(&format!("  {} [{}]\n", single_line(&problem.message), problem.code));
            }
            for note in &layer.notes {
                text.push_str(&format!("  note: {note}\n"));
            }
        }
        text
    })?;
    Ok(if is_clean { 0 } else { 1 })
}

/// The check of a filesystem; `None` for content that has no check here.
fn check_volume(volume: &VolumeDevice, path: &Path) -> Result<Option<LayerCheck>, Failure> {
    match volume.content.as_ref().map(|content| content.kind) {
        Some("vfat") => check_fat(volume, path).map(Some),
        Some("xfs") => check_xfs(volume, path).map(Some),
        _ => check_ext(volume, path),
    }
}

fn check_fat(volume: &VolumeDevice, path: &Path) -> Result<LayerCheck, Failure> {
    let code = "guest.fat.structure";
    let mut notes = Vec::new();
    let problems = match fat::check(&volume.stored) {
        Ok(report) => {
            if report.problem_count > report.problems.len() as u64 {
                notes.push(format!("{} problems in all", report.problem_count));
            }
            notes.extend(report.notes);
            report.problems.into_iter().map(|message| Problem { code: code.into(), message }).collect()
        }
        Err(error) if report::Diagnose::class(&error) == report::Class::Damaged => {
            vec![Problem { code: report::Diagnose::code(&error).into(), message: error.to_string() }]
        }
        Err(error) => return Err(error).at_image(path),
    };
    Ok(LayerCheck { layer: volume.name.clone(), checked: "vfat".into(), problems, notes })
}

fn check_xfs(volume: &VolumeDevice, path: &Path) -> Result<LayerCheck, Failure> {
    let mut notes = Vec::new();
    let problems = match xfs::check(std::sync::Arc::clone(&volume.stored)) {
        Ok(report) => {
            if report.problem_count > report.problems.len() as u64 {
                notes.push(format!("{} problems in all", report.problem_count));
            }
            let problem =
                |problem: &xfs::Problem| Problem { code: problem.code.into(), message: problem.to_string() };
            report.problems.iter().map(problem).collect()
        }
        Err(error) if report::Diagnose::class(&error) == report::Class::Damaged => {
            vec![Problem { code: report::Diagnose::code(&error).into(), message: error.to_string() }]
        }
        Err(error) => return Err(error).at_image(path),
    };
    Ok(LayerCheck { layer: volume.name.clone(), checked: "xfs".into(), problems, notes })
}

fn check_ext(volume: &VolumeDevice, path: &Path) -> Result<Option<LayerCheck>, Failure> {
    let Some(content) = volume.content.as_ref().filter(|content| content.kind.starts_with("ext")) else {
        return Ok(None);
    };
    let device = volume.recovered.as_ref().unwrap_or(&volume.stored);
    let mut notes = Vec::new();
    if volume.recovered.is_some() {
        notes.push("the journal was replayed in memory; this is the state after it".to_owned());
    }
    let problems = match ext4::check(device) {
        Ok(report) => {
            let CheckReport { problems, has_recorded_errors, problem_count, .. } = report;
            if has_recorded_errors {
                notes.push("the kernel has recorded errors in this filesystem".into());
            }
            if problem_count > problems.len() as u64 {
                notes.push(format!("{problem_count} problems in all"));
            }
            problems
                .iter()
                .map(|problem| Problem { code: problem.code.into(), message: problem.to_string() })
                .collect()
        }
        Err(error) if report::Diagnose::class(&error) == report::Class::Damaged => {
            vec![Problem { code: report::Diagnose::code(&error).into(), message: error.to_string() }]
        }
        Err(error) => return Err(error).at_image(path),
    };
    Ok(Some(LayerCheck { layer: volume.name.clone(), checked: content.kind.to_string(), problems, notes }))
}

/// Prints one layer.
pub fn dump(path: &Path, layer: &str, args: &ImageArgs, output: &Output) -> CommandResult {
    let progress = Bar::new(true);
    let image = Image::open(path, &session::options(args, Access::Read), &progress).at_image(path)?;
    let mut text = Vec::new();
    match layer {
        "image" => match (image.qcow2(), image.vhd()) {
            (Some(qcow2), _) => qcow2.dump(&mut text).at_image(path)?,
            (None, Some(vhd)) => vhd.dump(&mut text).at_image(path)?,
            (None, None) => text
                .extend_from_slice(format!("raw image, {} bytes\n", image.virtual_disk().len()).as_bytes()),
        },
        "partitions" => text.extend_from_slice(partition::dump(image.partition_table()).as_bytes()),
        name => {
            let table = image.device_table();
            let index = match name.parse::<u32>() {
                Ok(number) => table.volumes.iter().position(|volume| volume.is_partition(0, number)),
                Err(_) if name == "disk" => table
                    .volumes
                    .iter()
                    .position(|volume| volume.partition.is_none() && volume.logical.is_none()),
                Err(_) => table.resolve(name),
            };
            let volume = image.filesystems().into_iter().find(|volume| Some(volume.index) == index);
            let volume = volume.ok_or_else(|| {
                Failure::usage(format!("{name:?} names no layer of this image"))
                    .with_hint("Give image, partitions, a partition number, UUID=… or LABEL=….")
            })?;
            let kind = volume.content.as_ref().map_or("", |content| content.kind);
            if kind != "xfs" && !kind.starts_with("ext") {
                let what = volume
                    .content
                    .map_or_else(|| "nothing that is known".into(), |content| content.kind.to_string());
                return Err(Failure::new(
                    "dump.unsupported",
                    report::Class::Unsupported,
                    format!("{}: holds {what}, which has no dump yet", volume.name),
                ));
            }
            if kind == "xfs" {
                xfs::dump(volume.stored, &mut text).at_image(path)?;
            } else {
                ext4::dump(&volume.stored, &mut text).at_image(path)?;
            }
        }
    }
    if output.is_json() {
        output.json(&json!({ "layer": layer, "dump": String::from_utf8_lossy(&text) }))?;
    } else {
        output.bytes(&text)?;
    }
    Ok(0)
}
