"""What an operator or a program asks for: the commands, the API and the console share these functions.

Each takes the `Services` of this process and ``by``, who asks: ``cli:USER@HOST``, ``token:NAME``, ``console:NAME``. It
raises `OkasieError` only, writes to Redis, and does not wait for the workers.
"""
