"""Many runs that answer one question: are the gradients right, which rate, which published errors, which settings?"""
