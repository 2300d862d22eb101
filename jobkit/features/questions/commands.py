"""`jobkit answer`: answers to questions of jobs."""

from __future__ import annotations

import click

import jobkit
from jobkit.cli import as_json_option, id_argument, out
from jobkit.model import JobkitError, QuestionClosed
from jobkit.tasks.params import describe


@click.command()
@id_argument
@click.argument("values", nargs=-1, metavar="[NAME=VALUE | VALUE]...")
@as_json_option
def answer(job_id: str, values: tuple[str, ...], as_json: bool) -> None:
    """Answer the question of a job; without values, show it.

    \b
    jobkit answer 5f0c1234                    # shows the question
    jobkit answer 5f0c1234 noise=3 keep=true  # a question with several fields
    jobkit answer 5f0c1234 yes                # a question for one value
    """
    kit = jobkit.connect()
    job_id = out.find(kit, job_id)
    snapshot = kit.snapshot(job_id)
    key = snapshot.asking[0].key if snapshot.asking else ""
    question = kit.questions.get(job_id, key) if key else None
    if question is None and not values:
        raise QuestionClosed(f"job {job_id} asks nothing now; `jobkit jobs is:asking` lists the jobs that ask")
    if question is None or values:
        try:
            kit.questions.answer(job_id, question.parse(values) if question is not None else " ".join(values), key=key)
        except JobkitError:
            out.note(kit, "answer", "job", [job_id], 1)
            raise
        out.note(kit, "answer", "job", [job_id])
        click.echo(f"{job_id} answered")
    elif as_json:
        out.echo_json({"id": job_id, "key": key, "asked_at": snapshot.asking[0].at, **question.to_json()})
    else:
        click.echo(out.block(question.text))
        if question.problem:
            out.echo(f"The answer before was refused: {question.problem}")
        out.facts({"asked": out.ago(snapshot.asking[0].at), "until": out.ago(snapshot.asking[0].due)})
        for spec in question.params:
            name = "" if question.is_one else f"{spec.name}="
            out.echo(f"  {name}  {describe(spec)}{'' if spec.required else ', optional'}  {spec.help}".rstrip())
