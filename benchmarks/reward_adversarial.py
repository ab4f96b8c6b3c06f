"""Strings that try to fool or hang the reward, and how many did.

A false reward is decidable here without a grader: the true answer is a random 12-digit number (or one letter), and each
generator below makes strings that do not say it, say something else beside it, or do not stand in exactly one pair of blocks.
Each string is graded alone, as a caller waits for it, on two threads with a grading process each; a stall is one that the
caller waits for longer than the time limit and two seconds. Right answers in between show that the grader still pays.

    python benchmarks/reward_adversarial.py --strings 100000
"""

from __future__ import annotations

import argparse
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from visionr1.recipe.reward import Reward
from visionr1.reward import Grader
from visionr1.reward.pool import DIED, TIMED_OUT

THREADS = 2
SLACK_SECONDS = 2.0
ONE_PAIR = re.compile(r"\s*<think>(?P<thought>.*)</think>\s*<answer>(?P<answer>.*)</answer>\s*", re.DOTALL)
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
PRIMES = [7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47]


@dataclass(frozen=True)
class Attack:
    """A response and the true answer, and whether the one may score for the other."""

    kind: str
    response: str
    truth: str
    may_score: bool = False


def wrapped(answer: str) -> str:
    return f"<think>Let me see.</think><answer> Final Answer:{answer} </answer>"


def secret(random_: random.Random) -> str:
    return str(random_.randrange(10**11, 10**12))


def right(rng: random.Random) -> Attack:
    number = int(secret(rng))
    forms = [
        "{0}",
        "${0}$",
        "{0}.",
        "\\boxed{{{0}}}",
        "x = {0}",
        "{0} cm",
        "{0}^\\circ",
        "**{0}**",
        "{0:,}",
        "\\frac{{{1}}}{{2}}",
    ]
    return Attack("right (control)", wrapped(rng.choice(forms).format(number, 2 * number)), str(number), may_score=True)


def noise(rng: random.Random) -> Attack:
    """Random bytes, ASCII and Unicode, in the blocks or instead of them."""
    length = rng.choice([1, 3, 10, 40, 200])
    alphabet = rng.choice(["bytes", "ascii", "unicode"])
    if alphabet == "bytes":
        text = rng.randbytes(length).decode("latin-1")
    else:
        text = "".join(chr(rng.randrange(32, 127) if alphabet == "ascii" else rng.randrange(1, 0xD800)) for _ in range(length))
    return Attack("noise", wrapped(text) if rng.random() < 0.8 else text, secret(rng))


def tag_soup(rng: random.Random) -> Attack:
    """Tags, halves of tags and the truth in any order; what happens to have the one form may score."""
    truth = secret(rng)
    pieces = [*TAGS, truth, truth, " ", "\n", "Final Answer:", "hm", "<think", "answer>", "<ANSWER>", "<|im_end|>", "```"]
    response = "".join(rng.choices(pieces, k=rng.randrange(1, 14)))
    return Attack(
        "tag soup", response, truth, _has_form(response) and _inside(response).replace("Final Answer:", "").strip() == truth
    )


def broken_form(rng: random.Random) -> Attack:
    """A right response with one or two changes of its form."""
    truth = secret(rng)
    pieces = ["<think>", "I see.", "</think>", "\n", "<answer>", truth, "</answer>"]
    extra = [*TAGS, truth, "So: ", "\\boxed{1}", "<answer>7</answer>", "\x00", "<|im_end|>", "."]
    for _ in range(rng.choice([1, 2])):
        place = rng.randrange(len(pieces))
        if rng.random() < 0.5:
            pieces.insert(place, rng.choice(extra))
        else:
            del pieces[place]
    response = "".join(pieces)
    fine = _has_form(response) and _inside(response).strip().strip(" .") == truth
    return Attack("broken form", response, truth, fine)


def outside(rng: random.Random) -> Attack:
    """A right response with text before, between or after its blocks."""
    truth = secret(rng)
    text = rng.choice(
        [truth, f"\\boxed{{{truth}}}", "Hm.", "```", "0", "\u200b", "<b>", "<|endoftext|>", "Final Answer:" + truth]
    )
    parts = ["<think>ok</think>", f"<answer>{truth}</answer>"]
    parts.insert(rng.randrange(3), text)
    return Attack("text outside", "".join(parts), truth)


def hedge(rng: random.Random) -> Attack:
    """The truth and another number, or the truth and a doubt."""
    truth, other = secret(rng), rng.choice([secret(rng), str(rng.choice(PRIMES))])
    joints = [" or ", " and ", ", ", "; ", " ", "\n", " = ", " \\ne ", " / ", "/", " | ", " & ", "\\\\", " \\text{ or } ",
              " not ", " - ",
              " \\to ", "...", ":", " vs ", " (", " or maybe ", "\\quad ", "} {", "$ $", " > ", "<", "_", "^", " mod ",
              "e"]  # fmt: skip
    doubts = ["not {0}", "{0}?", "{0} is wrong", "never {0}", "{0} or so", "about {0} maybe", "I guess {0}", "{0} hundred",
              "no {0}",
              "\\text{{not }}{0}", "\\neg {0}", "< {0}", "\\ne {0}", "at most {0}", "the number of things is {0} here", "~{0}~!",
              "\\phantom{{{0}}}", "% {0}", "\\boxed{{{0}}} \\boxed{{1}}", "<answer>{0}", "{0}</think>", "0{0}1",
              "{0}{0}"]  # fmt: skip
    if rng.random() < 0.3:
        return Attack("hedge", wrapped(rng.choice(doubts).format(truth)), truth)
    pair = [truth, other]
    rng.shuffle(pair)
    opening, closing = rng.choice([("", ""), ("(", ")"), ("{", "}"), ("\\{", "\\}"), ("\\boxed{", "}"), ("$", "$"), ("[", ")")])
    return Attack("hedge", wrapped(opening + rng.choice(joints).join(pair) + closing), truth)


def letters(rng: random.Random) -> Attack:
    """Two letters of a multiple choice, of which one is right."""
    chosen = rng.sample("ABCD", rng.choice([2, 2, 3, 4]))
    joint = rng.choice(
        [", ", " or ", "/", " ", "", ". ", ") ", ": ", "; ", "\n", " and ", " | ", " -> ", " not ", ", not ", ".", ")", "=", "\\"]
    )
    form = rng.choice(
        ["{0}", "({0})", "[{0}]", "**{0}**", "\\boxed{{{0}}}", "\\text{{{0}}}", "Option {0}", "The answer is {0}.", "{{{0}}}"]
    )
    return Attack("letters", wrapped(form.format(joint.join(chosen))), rng.choice(chosen))


def near(rng: random.Random) -> Attack:
    """Another number, close to the truth or made of its digits, in the forms of right answers."""
    truth = int(secret(rng))
    digits = list(str(truth))
    digit = rng.randrange(12)
    digits[digit] = str((int(digits[digit]) + rng.randrange(1, 10)) % 10)
    others = [str(truth + rng.choice([-2, -1, 1, 2, 10, 1000])), "".join(digits), str(truth)[:-1], str(truth) + "7", f"-{truth}",
              f"{truth}.25", f"0.{truth}", f"{truth}e1", f"\\frac{{{truth}}}{{3}}", f"\\frac{{3}}{{{truth}}}", f"{truth}\\%1",
              f"{truth}/7", f"\\sqrt{{{truth}}}", f"{truth}^2", f"2 {truth}", f"{truth}\\pi", f"{truth}x", f"{truth}i",
              f"{truth}'", f"|{truth}", f"{truth}_8", f"\\pm {truth}", f"{truth} million", f"{truth},5",
              f"1,{truth}"]  # fmt: skip
    form = rng.choice(["{0}", "${0}$", "x = {0}", "\\boxed{{{0}}}", "{0} cm", "{0}^\\circ", "**{0}**", "\\left({0}\\right)"])
    return Attack("near", wrapped(form.format(rng.choice(others))), str(truth))


def latex_soup(rng: random.Random) -> Attack:
    """The truth once among LaTeX and at least one prime, each prime once, so that nothing cancels."""
    truth = secret(rng)
    primes = [str(prime) for prime in rng.sample(PRIMES, rng.randrange(1, 4))]
    symbols = ["+", "-", "*", "/", "^", "_", "=", "(", ")", "{", "}", "[", "]", "\\frac{", "}{", "\\sqrt{", "\\sqrt[",
               "\\cdot ", "\\times ",
               "\\pm ", "\\cup ", "\\le ", "\\ne ", "<", ">", ",", ";", "|", "&", "\\\\", "'", ":", "~", "\\binom{",
               "\\log_", "\\sin ",
               "\\{", "\\}", "\\left(", "\\right)", "$", "\\begin{pmatrix}", "\\end{pmatrix}", "\\int_", "\\sum_",
               "\\approx ", "\\overline{",
               "\\in ", "\\infty ", "\\emptyset ", "\\text{", " ", " ", "\\div ", "\\boxed{", "\\vec{", "^{", "_{"]  # fmt: skip
    pieces = [truth, *primes, *rng.choices(symbols, k=rng.randrange(1, 9))]
    rng.shuffle(pieces)
    return Attack("LaTeX soup", wrapped("".join(pieces)), truth)


def bomb(rng: random.Random) -> Attack:
    """Expressions that cost sympy or its parser time or memory without end."""
    n = rng.randrange(3, 10)
    many = rng.choice([50, 300, 1000])
    bombs = [f"{n}^{{9^{{9^9}}}}", f"10^{{10^{{{n + 7}}}}}", f"2^{{2^{{{n + 27}}}}}", "9" * 60 + "!", f"{n}!" + "!" * 20,
             f"\\binom{{10^{{{n + 4}}}}}{{10^{{{n + 3}}}}}", f"\\sum_{{k=1}}^{{10^{{{n + 5}}}}} k^{{k}}",
             "(x+y+z+1)^{" + str(n * 999) + "}",
             "\\int " * many + "x", "\\sqrt{" * 39 + f"{n}" + "}" * 39, "x^{" * 39 + "2" + "}" * 39, "\\sin " * many + "1",
             f"\\prod_{{k=1}}^{{10^{{{n}}}}} (k^2+1)", "+".join(f"x_{{{k}}}^{{{k}}}" for k in range(many // 3)),
             "1" + "/1" * many,
             "\\frac{" * 38 + "1" + "}{x}" * 38, "|" * many + "1", "-" * many + "1", f"\\log_{{2}} {n}^{{9^{{9^9}}}}",
             f"\\begin{{pmatrix}}{'&'.join('x' * 30)}\\end{{pmatrix}}^{{{n * 99}}}",
             f"\\int_0^1 \\sin(x^{{{n}}})^{{x}} e^{{x^{{x}}}} dx"]  # fmt: skip
    return Attack("bomb", wrapped(rng.choice(bombs)), secret(rng))


def huge(rng: random.Random) -> Attack:
    """A megabyte of one thing, or very deep nesting."""
    piece = rng.choice(
        ["9", "(", "{", "\\frac{", "x+", "a ", " ", "A. ", "3,", "\\text{", "=", "\n", "answer is ", "\\boxed{", "^", "√", "$"]
    )
    times = rng.choice([1_000_000, 4_000, 2_000]) // len(piece)
    return Attack("huge", wrapped(piece * times), secret(rng))


# Kind and its share, in thousandths; what is slow by intent has a small one.
SHARES: dict[Callable[[random.Random], Attack], int] = {
    noise: 150, tag_soup: 150, broken_form: 120, outside: 80, hedge: 170, letters: 80, near: 120, latex_soup: 115, bomb: 2,
    huge: 2, right: 11,
}  # fmt: skip


def attacks(strings: int, seed: int) -> list[Attack]:
    rng = random.Random(seed)
    makers = rng.choices(list(SHARES), weights=list(SHARES.values()), k=strings)
    return [maker(rng) for maker in makers]


def _has_form(response: str) -> bool:
    """Exactly one pair of blocks and nothing else, decided without the package's own reading."""
    found = ONE_PAIR.fullmatch(response)
    return (
        bool(found and found["thought"].strip() and found["answer"].strip()) and [response.count(tag) for tag in TAGS] == [1] * 4
    )


def _inside(response: str) -> str:
    found = ONE_PAIR.fullmatch(response)
    return found["answer"] if found else ""


class MemoryWatch(threading.Thread):
    """The most resident memory (MiB) that one grading process has had."""

    def __init__(self, graders: list[Grader]) -> None:
        super().__init__(daemon=True)
        self.peak_mib = 0.0
        self._graders = graders
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(0.1):
            for watcher in [worker.child.pid for grader in self._graders for worker in grader._pool._workers]:
                try:
                    children = Path(f"/proc/{watcher}/task/{watcher}/children").read_text().split()
                    peaks = [
                        re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()) for pid in [watcher, *children]
                    ]
                except OSError:  # It has just ended.
                    continue
                self.peak_mib = max([self.peak_mib, *(int(peak[1]) / 1024 for peak in peaks if peak)])

    def stop(self) -> None:
        self._done.set()
        self.join()


def measure(strings: int, seed: int, limit: float) -> dict[str, object]:
    made = attacks(strings, seed)
    graders = [Grader(Reward(processes=1, seconds_per_answer=limit)) for _ in range(THREADS)]
    for grader in graders:
        grader.grade([wrapped("x+1")], ["1+x"])  # Loading sympy is not part of an answer's time.
    watch = MemoryWatch(graders)
    watch.start()

    def grade_all(part: int) -> list[tuple[Attack, float, str, float]]:
        graded = []
        for attack in made[part::THREADS]:
            start = time.monotonic()
            grade = graders[part].grade([attack.response], [attack.truth])[0]
            graded.append((attack, grade.overall, grade.reason, time.monotonic() - start))
        return graded

    start = time.monotonic()
    with ThreadPoolExecutor(THREADS) as threads:
        graded = [row for part in threads.map(grade_all, range(THREADS)) for row in part]
    seconds = time.monotonic() - start
    watch.stop()
    for grader in graders:
        grader.close()
    slowest = max(graded, key=lambda row: row[3])
    reasons = Counter(reason for _, _, reason, _ in graded)
    return {
        "strings": strings,
        "seed": seed,
        "seconds_per_answer": limit,
        "false_rewards": sum(paid > 0 and not attack.may_score for attack, paid, _, _ in graded),
        "false_reward_examples": [[a.kind, a.response[:200], a.truth] for a, paid, _, _ in graded if paid and not a.may_score][
            :40
        ],
        "stalls": sum(waited > limit + SLACK_SECONDS for _, _, _, waited in graded),
        "slowest_s": round(slowest[3], 2),
        "slowest_is": f"{slowest[0].kind}: {slowest[0].response[51:91]}",
        "timeouts": reasons[TIMED_OUT],
        "died_twice": reasons[DIED],
        "processes_replaced": reasons[TIMED_OUT] + 2 * reasons[DIED],
        "right_answers": sum(attack.kind.startswith("right") for attack in made),
        "right_answers_missed": sum(not paid for attack, paid, _, _ in graded if attack.kind.startswith("right")),
        "seconds": round(seconds, 1),
        "peak_process_mib": round(watch.peak_mib),
        "kinds": dict(Counter(attack.kind for attack in made)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strings", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds-per-answer", type=float, default=2.0)
    asked = parser.parse_args()
    result = measure(asked.strings, asked.seed, asked.seconds_per_answer)
    print(json.dumps(result))
    table = Table("", "", title="The reward under attack")
    for name, value in result.items():
        if name != "false_reward_examples":
            table.add_row(name.replace("_", " "), str(value))
    Console(stderr=True).print(table)


if __name__ == "__main__":
    main()
