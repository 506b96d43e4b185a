"""An agent that is killed after each step, yet repeats no call to the model or to a tool."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import cloaca

URL = "sqlite:///agent.db"
CALLS = Path("calls.txt")
STEPS = ["model 0", "tool 0", "model 1", "tool 1", "model 2"]
VICTIM = sys.argv[1] if len(sys.argv) > 1 else None


def note(step: str) -> None:
    with CALLS.open("a") as file:
        file.write(f"{step}\n")


def ask_model(question: str, found: list[str]) -> dict:
    """Stands for a call to a language model."""
    note(f"model {len(found)}")
    if len(found) == 2:
        return {"answer": f"{question} {' '.join(found)}"}
    return {"tool": "search", "query": f"page {len(found)}"}


def use_tool(name: str, query: str, number: int) -> str:
    note(f"tool {number}")
    return f"[{name}: {query}]"


def die_after(step: str) -> None:
    """Kills the process like `kill -9`, if `VICTIM` is this step."""
    if step == VICTIM:
        os.kill(os.getpid(), signal.SIGKILL)


@cloaca.workflow
def agent(question: str, handle: cloaca.TaskHandle) -> str:
    found: list[str] = []
    while True:
        number = len(found)
        reply = handle.step(f"model {number}", ask_model, question, found)
        die_after(f"model {number}")
        if "answer" in reply:
            return reply["answer"]
        found.append(handle.step(f"tool {number}", use_tool, reply["tool"], reply["query"], number))
        die_after(f"tool {number}")


if __name__ == "__main__":
    if VICTIM is None:
        for step in STEPS:
            process = subprocess.run([sys.executable, __file__, step], check=False)
            print("killed after", step, process.returncode == -signal.SIGKILL)
    with cloaca.DefaultRunner(URL) as runner:
        # Because of the key, every start of the program continues the same execution.
        handle = runner.submit("agent", {"question": "Where is my order?"}, key="order")
        print(handle.result().output)
    print(CALLS.read_text().split("\n")[:-1] == STEPS)
