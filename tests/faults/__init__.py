"""Kills real commands at random moments, and looks at what they left.

A file a trial, found by the folder's listing. One that kills a command offers

    COMMAND                         the words after ``fa-track``, or a function
    prepare(folder, fa_track)       makes the folder in which the command begins, by other commands
    held(folder)                    what the folder holds, without times
    broken(before, left, after)     what a kill broke, a line each: what the folder held ``before`` the command, what
                                    was ``left`` of it, and what an undisturbed command has made of it
    again(folder, fa_track)         brings the work to its end after a kill; where there is none, the command does
    unlike(left, again, after)      wherein a rerun differs from an undisturbed run, or did again what was done

and any other

    tried(folder, small)            does it, and says what it has done, and a line for each thing that was broken

``python -m tests.faults --kills 50`` is the whole set.
"""
