"""What the model is asked for a summary, and how the summary is introduced to it afterwards."""

REQUEST = """\
The conversation is about to be shortened: everything above will be replaced by what you write now,
and you will continue the work from it alone. Write the notes that let you do so without asking.

Cover, in this order, whatever applies:
1. What the user wants: the goal, the constraints, and every correction that the user has made.
2. Decisions that were taken, each with its reason, and what was rejected.
3. Facts that the work depends on, exactly as they are: names, paths, identifiers, commands,
   addresses, numbers, quoted text. Point to large content by where it is found; do not copy it.
4. Errors that were met, with their exact cause, and how each one was solved or worked around.
   Name the case: do not turn one failure into a general rule.
5. State: what is done, what is in progress, and what is still to do.
6. The next action, concretely enough to be carried out at once.

Write dense notes in the language of the conversation. Leave out greetings, praise and what no
longer matters. Do not call tools. Do not address the user and do not ask the user anything: if
something is uncertain, note it as uncertain and say how you will find out."""

INTRODUCTION = """\
[The earlier part of this conversation was replaced by the notes below, which you wrote yourself.
The work was in progress: take up the next action that they name. Do not mention the notes, do not
repeat what is done, and do not ask whether to continue.]

"""
