//! Every page with sample data, for the tests and for `examples/render.rs`. The data is in the shape of the API.

use boss_api::user::{EventView, ExperimentView, ImageView, JobView, NodeView, SwapPointView};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::datetime;
use web::Template;
use web::pages::{
    ConfirmSwapOutPage, ExperimentPage, ExperimentsPage, ImagesPage, MessagePage, NewExperimentForm, NewExperimentPage,
    NodeFields, NodesPage, Problems, SignInPage,
};
use web::parts::{Frame, Section};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-21 01:30:41 UTC);
const TOKEN: &str = "sample-form-token";
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

fn id(number: u32) -> String {
    format!("01930000-0000-7000-8000-{number:012x}")
}

fn frame(section: Section) -> Frame {
    Frame::for_user("ann".parse().expect("sample data is well-formed"), TOKEN, section)
}

fn capture(number: u32, vname: &str, state: &str, failure: Option<&str>) -> Value {
    let verified = state == "verified";
    json!({
        "id": id(number), "vname": vname, "node": "pc214", "disk": "sda", "state": state,
        "scanned_bytes": 41 * GIB, "changed_bytes": 1_900 * MIB,
        "delta_bytes": verified.then_some(812 * MIB),
        "target_root": verified.then(|| "5a".repeat(32)), "zdi": verified.then(|| "c3".repeat(32)),
        "took_ms": verified.then_some(72_400), "failure": failure,
    })
}

fn point(number: u32, state: &str, captures: &[Value]) -> Value {
    json!({
        "number": number, "state": state,
        // Swap point 6 is that of the running job.
        "opened_at": if number == 6 { "2026-11-21T01:29:30Z" } else { "2026-11-20T18:01:10Z" },
        "closed_at": (state != "open").then_some("2026-11-20T18:02:22Z"), "captures": captures,
    })
}

fn node(vname: &str, machine: Option<&str>, state: Value, progress: Value) -> Value {
    json!({ "vname": vname, "image": "debian12/14", "node": machine, "node_state": state, "progress": progress })
}

fn progress(activity: &str, done: u64, total: u64) -> Value {
    json!([{
        "disk": "sda", "activity": activity, "done_bytes": done, "total_bytes": total, "changed_bytes": 812 * MIB,
        "sent_bytes": 301 * MIB, "started_at": "2026-11-21T01:30:00Z",
    }])
}

fn job(kind: &str, state: &str, detail: Option<&str>) -> Value {
    let over = matches!(state, "done" | "failed");
    json!({
        "id": id(7), "kind": kind, "state": state, "detail": detail, "saves": kind == "swap-out",
        "on_failure": (kind == "swap-out").then_some("release-verified"), "created_at": "2026-11-21T01:29:30Z",
        "ended_at": over.then_some("2026-11-21T01:30:10Z"),
    })
}

fn view(eid: &str, state: &str, save: bool, nodes: &[Value], job: Value, last_point: Value) -> ExperimentView {
    serde_json::from_value(json!({
        "id": id(1), "pid": "systems-lab", "eid": eid, "state": state, "state_since": "2026-11-21T01:29:30Z",
        "save_swap_state": save, "creator": "ann", "nodes": nodes, "job": job, "last_point": last_point,
    }))
    .expect("sample data is well-formed")
}

fn with_history(page: ExperimentPage) -> ExperimentPage {
    let failed = "agent on pc201 stopped answering for 300 s while it scanned sda: the attempt was given up";
    let points = [
        point(5, "complete", &[capture(51, "client", "verified", None), capture(52, "server", "verified", None)]),
        point(
            4,
            "incomplete",
            &[capture(41, "client", "verified", None), capture(42, "server", "failed", Some(failed))],
        ),
    ];
    let events = json!([
        { "id": 3, "kind": "swap-out.asked", "message": "ann asked for a swap-out", "node": null, "at": "2026-11-21T01:29:30Z" },
        { "id": 2, "kind": "node.in-use", "message": "client runs its own system", "node": "pc214", "at": "2026-11-18T08:12:00Z" },
        { "id": 1, "kind": "experiment.made", "message": "ann made the experiment with 2 nodes", "node": null, "at": "2026-11-13T07:41:00Z" },
    ]);
    let points = points
        .into_iter()
        .map(|point| serde_json::from_value::<SwapPointView>(point).expect("sample data is well-formed"));
    ExperimentPage {
        points: points.chain(page.points.clone()).collect(),
        events: serde_json::from_value::<Vec<EventView>>(events).expect("sample data is well-formed"),
        ..page
    }
}

fn experiment_page(view: ExperimentView) -> ExperimentPage {
    ExperimentPage::new(frame(Section::Experiments), view, NOW)
}

/// Both nodes being saved, at different places.
pub(crate) fn saving() -> ExperimentPage {
    let open = point(6, "open", &[capture(61, "client", "streaming", None), capture(62, "server", "received", None)]);
    let nodes = [
        node("client", Some("pc214"), json!({"state": "capturing"}), progress("capture", 41 * GIB, 120 * GIB)),
        node("server", Some("pc209"), json!({"state": "capturing"}), progress("capture", 92 * GIB, 92 * GIB)),
    ];
    with_history(experiment_page(view("lidar-bench", "swapping", true, &nodes, job("swap-out", "running", None), open)))
}

/// One node held, with a name made to break markup.
pub(crate) fn held() -> ExperimentPage {
    let state = json!({
        "state": "held", "reason": "capture of sda failed: a frame had another digest than it was sent with <b>",
        "owner": "an operator", "next": "look at the machine's memory and its link, then press Retry",
        "disks": "unsaved",
        "kept": { "by": "bob", "until": "2026-11-24T23:59:59Z", "note": "memory is exchanged on Monday <b>" },
    });
    let open =
        point(6, "open", &[capture(61, "client", "verified", None), capture(62, "server", "failed", Some("corrupt"))]);
    let nodes = [
        node("client", None, Value::Null, json!([])),
        node("server", Some("pc209"), state, progress("capture", 12 * GIB, 92 * GIB)),
    ];
    let detail = "1 of 2 nodes could not be saved";
    let page = experiment_page(view("lidar-bench", "held", true, &nodes, job("swap-out", "held", Some(detail)), open));
    with_history(ExperimentPage { may_discard: true, ..page })
}

/// A swap-in that is held, with one node that runs already.
pub(crate) fn held_swap_in() -> ExperimentPage {
    let state = json!({
        "state": "held", "reason": "a disk was not written: sda reads back as something else (3 attempts)",
        "owner": "operator", "next": "see to the machine, then retry the experiment", "disks": "ours", "kept": null,
    });
    let nodes = [
        node("client", Some("pc214"), json!({"state": "in_use"}), json!([])),
        node("server", Some("pc209"), state, progress("restore", 3 * GIB, 12 * GIB)),
    ];
    let page = experiment_page(view("lidar-bench", "held", true, &nodes, job("swap-in", "held", None), Value::Null));
    with_history(page)
}

/// Running, and a swap-out would lose everything.
pub(crate) fn active_unsaved() -> ExperimentPage {
    let nodes = [
        node("client", Some("pc214"), json!({"state": "in_use"}), json!([])),
        node("server", Some("pc209"), json!({"state": "in_use"}), json!([])),
    ];
    experiment_page(view("lidar-bench", "active", false, &nodes, Value::Null, Value::Null))
}

/// Machines being loaded.
pub(crate) fn swapping_in() -> ExperimentPage {
    let nodes = [
        node("client", Some("pc209"), json!({"state": "restoring"}), progress("restore", 3 * GIB, 12 * GIB)),
        node("server", Some("pc214"), json!({"state": "in_use"}), json!([])),
    ];
    with_history(experiment_page(view(
        "lidar-bench",
        "activating",
        true,
        &nodes,
        job("swap-in", "running", None),
        Value::Null,
    )))
}

/// Swapped out, and the last job failed.
pub(crate) fn swapped() -> ExperimentPage {
    let nodes = [node("client", None, Value::Null, json!([])), node("server", None, Value::Null, json!([]))];
    let failed: JobView =
        serde_json::from_value(job("swap-in", "failed", Some("no 2 free nodes with disks of at least 120 GiB")))
            .expect("sample data is well-formed");
    let page = experiment_page(view("lidar-bench", "swapped", true, &nodes, Value::Null, Value::Null));
    with_history(ExperimentPage { last_job: Some(failed), ..page })
}

fn images() -> Vec<ImageView> {
    let version = |number: u32, retired: bool| {
        json!({
            "version": number, "zdi": "ab".repeat(32), "zdi_bytes": 611 * MIB, "root": "9c".repeat(32),
            "disk_bytes": 8 * GIB, "key": "0123456789abcdef0123456789abcdef", "retired": retired,
            "created_at": "2026-11-02T09:00:00Z",
        })
    };
    serde_json::from_value(json!([
        { "project": "systems-lab", "name": "lidar-base", "versions": [version(2, false), version(1, true)] },
        { "project": "system", "name": "debian12", "versions": [version(14, false), version(13, false)] },
    ]))
    .expect("sample data is well-formed")
}

fn nodes() -> Vec<NodeView> {
    let disk = |serial: &str, segments: Value| json!([{ "name": "sda", "serial": serial, "bytes": 120 * GIB, "segments": segments }]);
    let segment = json!([{ "start": 0, "bytes": 120 * GIB, "image": "debian12/14", "root": "9c".repeat(32), "loaded_at": "2026-11-18T08:10:00Z" }]);
    let held = json!({ "state": "held", "reason": "it did not boot its MFS within 600 s", "owner": "an operator", "next": "look at its console, then retry", "disks": "ours", "kept": null });
    serde_json::from_value(json!([
        { "id": id(11), "name": "pc201", "state": held, "epoch": 12, "experiment": "systems-lab/lidar-bench", "vname": "client", "disks": disk("S1", segment.clone()) },
        { "id": id(12), "name": "pc209", "state": {"state": "in_use"}, "epoch": 40, "experiment": "systems-lab/lidar-bench", "vname": "server", "disks": disk("S2", segment) },
        { "id": id(13), "name": "pc214", "state": {"state": "free"}, "epoch": 7, "experiment": null, "vname": null, "disks": disk("S3", json!([])) },
    ]))
    .expect("sample data is well-formed")
}

pub(crate) fn experiments() -> ExperimentsPage {
    let saved =
        point(5, "complete", &[capture(51, "client", "verified", None), capture(52, "server", "verified", None)]);
    let two = [node("client", None, Value::Null, json!([])), node("server", None, Value::Null, json!([]))];
    ExperimentsPage {
        frame: frame(Section::Experiments),
        experiments: vec![
            view("kernel-fuzz", "held", true, &two, Value::Null, Value::Null),
            view("lidar-bench", "swapping", true, &two, Value::Null, saved.clone()),
            view("paper-baseline-2026-with-a-name", "swapped", true, &two, Value::Null, saved),
            view("scratch", "active", false, &two[..1], Value::Null, Value::Null),
        ],
        can_create: true,
    }
}

pub(crate) fn new_experiment() -> NewExperimentPage {
    let row = |vname: &str, image: &str| NodeFields { vname: vname.into(), image: image.into() };
    let mut nodes = vec![row("client", "debian12"), row("Server 1", "lidar-base/2")];
    nodes.resize(8, NodeFields::default());
    let mut problems = Problems { eid: Some("\"lidar bench\" is not a name".into()), ..Problems::default() };
    problems.rows.insert(1, "\"Server 1\" is not a name".into());
    NewExperimentPage {
        frame: frame(Section::Experiments),
        form: NewExperimentForm { pid: "systems-lab".into(), eid: "lidar bench".into(), save_swap_state: true, nodes },
        problems,
        projects: vec![
            "other-lab".parse().expect("sample data is well-formed"),
            "systems-lab".parse().expect("sample data is well-formed"),
        ],
        images: images(),
    }
}

pub(crate) fn confirm() -> ConfirmSwapOutPage {
    ConfirmSwapOutPage {
        frame: frame(Section::Experiments),
        view: active_unsaved().view,
        typed: "lidar".into(),
        problem: Some("nothing was done: this is not the experiment's name, which is lidar-bench".into()),
    }
}

/// Every page, by the name of its file.
pub(crate) fn all() -> Vec<(&'static str, String)> {
    let sign_in = SignInPage {
        frame: Frame::for_nobody(TOKEN),
        name: "ann".into(),
        next: "/experiments".into(),
        problem: Some("this is not a user and the user's password".into()),
    };
    let message = MessagePage {
        frame: Frame::for_nobody(""),
        title: "Not found".into(),
        message: "the experiment a/b does not exist, or you are not a member of its project".into(),
    };
    let none = ExperimentsPage { experiments: Vec::new(), ..experiments() };
    vec![
        ("sign-in", sign_in.render().expect("sample data is well-formed")),
        ("experiments", experiments().render().expect("sample data is well-formed")),
        ("experiments-none", none.render().expect("sample data is well-formed")),
        ("new-experiment", new_experiment().render().expect("sample data is well-formed")),
        ("saving", saving().render().expect("sample data is well-formed")),
        ("swapping-in", swapping_in().render().expect("sample data is well-formed")),
        ("held", held().render().expect("sample data is well-formed")),
        ("held-swap-in", held_swap_in().render().expect("sample data is well-formed")),
        ("active-unsaved", active_unsaved().render().expect("sample data is well-formed")),
        ("swapped", swapped().render().expect("sample data is well-formed")),
        ("confirm", confirm().render().expect("sample data is well-formed")),
        (
            "nodes",
            NodesPage { frame: frame(Section::Nodes), nodes: nodes() }.render().expect("sample data is well-formed"),
        ),
        (
            "images",
            ImagesPage { frame: frame(Section::Images), images: images() }
                .render()
                .expect("sample data is well-formed"),
        ),
        ("message", message.render().expect("sample data is well-formed")),
    ]
}
