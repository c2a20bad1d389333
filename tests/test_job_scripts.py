"""The job scripts of examples/, run as written.

What they decide is tested with stand-ins for torchrun's workers and for SLURM's commands, in a
second; that they train is tested with the real ones on a CPU, but for SLURM's.
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SCRIPTS = sorted(path for path in EXAMPLES.iterdir() if path.suffix in (".sh", ".sbatch"))
ENVIRONMENT = str(Path(sys.executable).parent)
JOB = {
    "SLURM_JOB_ID": "77",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_NNODES": "1",
    "SLURM_JOB_END_TIME": "99999999999",
    "SLURM_CPUS_PER_TASK": "1",
}
SMALL = ["--batch-size", "4", "--runtime.workers", "0", "--runtime.checkpoint-every", "2"]

if shutil.which("bash") is None:
    pytest.skip("needs bash", allow_module_level=True)


def script(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/usr/bin/env bash\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def slurm(tmp_path):
    """SLURM's commands as far as the scripts use them: srun starts one task here."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script(folder, "srun", 'exec "$@"')
    script(
        folder,
        "scontrol",
        f'[ "$1" = show ] && echo "shown $*" >&2 && echo node1 && echo node2\n'
        f'[ "$1" = requeue ] && echo "$2" >> {tmp_path}/requeued\nexit 0',
    )
    return folder


@pytest.fixture
def torchrun(slurm, tmp_path):
    """A torchrun that notes its options and runs one worker, whose winnow does what is asked."""
    script(
        slurm,
        "torchrun",
        f'printf "%s\\n" "$@" > {tmp_path}/options\n'
        'while [ "$1" != winnow ]; do shift; done\nexec "$@"',
    )
    return slurm


def run(name, *options, folder=None, env, check=True):
    path = os.pathsep.join([*([str(folder)] if folder else []), ENVIRONMENT, os.environ["PATH"]])
    done = subprocess.run(
        ["bash", EXAMPLES / name, *options],
        env={**os.environ, "PATH": path, **env},
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_reads_every_script(path):
    subprocess.run(["bash", "-n", path], check=True)
    assert path.stat().st_mode & stat.S_IXUSR


def test_every_script_is_in_the_readme():
    words = (EXAMPLES / "README.md").read_text()
    for path in SCRIPTS:
        assert f"`{path.name}`" in words, path.name


def test_options_with_spaces_reach_winnow_as_they_are(torchrun, tmp_path):
    script(torchrun, "winnow", f'printf "%s\\n" "$@" > {tmp_path}/words')
    env = {"DATA": "my data", "OUT": "my run", "RECIPE": "psd"}
    run("one_machine.sh", "--steps", "7", "a b", folder=torchrun, env=env)
    words = (tmp_path / "words").read_text().splitlines()
    assert words == ["train", "psd", "--data", "my data", "--out", "my run", "--steps", "7", "a b"]


def slurm_job(torchrun, tmp_path, winnow, **env):
    script(torchrun, "winnow", winnow)
    out = tmp_path / "run"
    env = {**JOB, "DATA": "d", "OUT": str(out), **env}
    done = run("slurm.sbatch", "--steps", "9", folder=torchrun, env=env, check=False)
    requeued = tmp_path / "requeued"
    return done, requeued.read_text().split() if requeued.exists() else []


SAVES = 'while [ "$1" != --out ]; do shift; done\nmkdir -p "$2/checkpoints/step-00000004"\n'
FINISHES = SAVES + 'mkdir "$2/model"; echo "{}" > "$2/model/open_clip_config.json"'


def test_a_slurm_job_out_of_time_is_queued_again(torchrun, tmp_path):
    done, requeued = slurm_job(torchrun, tmp_path, SAVES + "exit 0")
    assert (done.returncode, requeued) == (0, ["77"]), done.stderr
    assert "step-00000004" in done.stdout
    options = (tmp_path / "options").read_text().splitlines()
    assert options[options.index("--rdzv-endpoint") + 1] == "node1:20077"


def test_a_finished_slurm_job_is_not_queued_again(torchrun, tmp_path):
    done, requeued = slurm_job(torchrun, tmp_path, FINISHES)
    assert (done.returncode, requeued) == (0, []), done.stderr
    assert "finished" in done.stdout


def test_a_failed_slurm_job_keeps_its_status(torchrun, tmp_path):
    done, requeued = slurm_job(torchrun, tmp_path, SAVES + "exit 2")
    assert (done.returncode, requeued) == (2, [])


def test_a_slurm_job_that_got_no_further_is_not_queued_again(torchrun, tmp_path):
    (tmp_path / "run" / "checkpoints" / "step-00000004").mkdir(parents=True)
    done, requeued = slurm_job(torchrun, tmp_path, SAVES + "exit 0")
    assert (done.returncode, requeued) == (1, [])
    assert "saved no step" in done.stderr


def test_the_time_limit_is_what_the_job_has_left_less_the_margin(torchrun, tmp_path):
    script(torchrun, "date", "echo 1000000")
    slurm_job(
        torchrun,
        tmp_path,
        f'printf "%s\\n" "$@" > {tmp_path}/words',
        SLURM_JOB_END_TIME="1014400",
        MARGIN="400",
    )
    words = (tmp_path / "words").read_text().splitlines()
    assert words[words.index("--runtime.time-limit") + 1] == "14000s"


def saving_winnow(folder: Path, tmp_path: Path) -> Path:
    """A winnow that says `ready`, and saves when it gets SIGTERM; where it saves."""
    saved = tmp_path / "run" / "checkpoints" / "step-00000006"
    (folder / "winnow").write_text(
        f"#!{sys.executable}\n"
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
        f"open({str(tmp_path / 'ready')!r}, 'w').close()\n"
        "signal.sigtimedwait({signal.SIGTERM}, 90) or sys.exit('nobody asked')\n"
        f"os.makedirs({str(saved)!r})\n"
        "sys.exit(143)\n"
    )
    (folder / "winnow").chmod(0o755)
    os.mkfifo(tmp_path / "ready")
    return saved


@pytest.mark.parametrize(
    ("number", "again"),
    [
        pytest.param(signal.SIGUSR1, ["77"], id="it is to make room"),
        pytest.param(signal.SIGTERM, [], id="it is cancelled"),
    ],
)
def test_a_slurm_job_that_must_leave_saves_first(torchrun, tmp_path, number, again):
    saved = saving_winnow(torchrun, tmp_path)
    # As the real ones do, both hand SIGTERM on to what they started, and wait for it.
    for name, skip in (("srun", ""), ("torchrun", 'while [ "$1" != winnow ]; do shift; done')):
        script(
            torchrun,
            name,
            f'{skip}\n( trap - TERM; exec setsid "$@" ) &\nchild=$!\n'
            "trap 'kill -TERM -- -$child' TERM\n"
            "while kill -0 $child 2>/dev/null; do wait $child; done\nwait $child",
        )
    env = {**os.environ, **JOB, "DATA": "d", "OUT": str(tmp_path / "run")}
    env["PATH"] = os.pathsep.join([str(torchrun), os.environ["PATH"]])
    with subprocess.Popen(
        ["bash", EXAMPLES / "slurm.sbatch"],
        env=env,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as job:
        (tmp_path / "ready").read_bytes()
        if number == signal.SIGTERM:  # every process of the job gets it
            os.killpg(job.pid, number)
        else:  # the script alone
            job.send_signal(number)
        job.communicate(timeout=60)  # until nothing of it is left
    requeued = tmp_path / "requeued"
    assert (requeued.read_text().split() if requeued.exists() else []) == again
    assert saved.is_dir()


def numbers(out: Path) -> dict[str, float]:
    """The last row of a run's metrics."""
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.slow
def test_two_processes_of_one_machine_train_and_go_on(shards, tmp_path):
    out = tmp_path / "run"
    env = {"DATA": str(shards), "OUT": str(out), "RECIPE": "tiny", "PROCESSES": "2"}
    run("one_machine.sh", *SMALL, "--steps", "4", env=env)
    assert numbers(out)["step"] == 4
    assert (out / "model" / "open_clip_config.json").is_file()


@pytest.mark.slow
def test_a_time_limit_leaves_a_run_that_the_same_line_finishes(shards, tmp_path):
    out = tmp_path / "run"
    env = {"DATA": str(shards), "OUT": str(out), "RECIPE": "tiny", "PROCESSES": "1"}
    first = run("one_machine.sh", *SMALL, "--steps", "4", "--runtime.time-limit", "1s", env=env)
    assert "the time limit 1s is reached" in first.stderr
    assert not (out / "model").exists()
    run("one_machine.sh", *SMALL, "--steps", "4", env=env)
    assert numbers(out)["step"] == 4


@pytest.mark.slow
def test_two_machines_train_one_run(shards, tmp_path):
    """Two agents of torchrun, who find each other by a file where machines do by a port."""
    out, steps = tmp_path / "run", ["--steps", "4"]
    env = {
        **os.environ,
        "PATH": os.pathsep.join([ENVIRONMENT, os.environ["PATH"]]),
        "DATA": str(shards),
        "OUT": str(out),
        "RECIPE": "tiny",
        "PROCESSES": "1",
        "HEAD": str(tmp_path / "store"),
        "PET_RDZV_CONF": "store_type=file",
        "PET_LOCAL_ADDR": "localhost",
    }
    command = ["bash", EXAMPLES / "two_machines.sh", *SMALL, *steps]
    machines = [
        subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [machine.communicate(timeout=300)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert numbers(out)["step"] == 4


@pytest.mark.slow
def test_an_array_of_slices_and_a_job_after_it_curate(slurm, shards, tmp_path):
    out = tmp_path / "curated"
    env = {**JOB, "SHARDS": str(shards), "OUT": str(out)}
    for task in ("0", "1"):
        array = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "2"}
        run("slurm_array_curate.sbatch", "--rules", "none", env={**env, **array})
        assert not (out / "selections").exists()
    run("slurm_array_curate.sbatch", "--rules", "none", env=env)
    assert (out / "selections" / "none" / "kept.arrow").is_file()
